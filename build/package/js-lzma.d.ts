/** js-lzma has no types of its own. Only what `lzma.ts` uses is declared here, as version 0.1.0 has it. */
declare module 'js-lzma' {
  export interface ByteSource {
    readByte(): number;
  }

  export interface ByteSink {
    writeByte(byte: number): void;
  }

  interface Decoder {
    /** The dictionary. Where `create` puts an array that grows, any of the same size does. */
    readonly _outWindow: { _buffer: number[] | Uint8Array };
    /** What is left in the range coder: its low 32 bits count. */
    readonly _rangeDecoder: { readonly _code: number };
    /** Reads the five bytes that .lzma files begin with. @returns false when they are not valid */
    setDecoderProperties(source: ByteSource): boolean;
    /**
     * Decodes until an end mark, or until `size` bytes and the rest of the match that goes beyond it.
     *
     * @param size -1 for no bound
     * @returns false when the data are damaged
     */
    decode(source: ByteSource, sink: ByteSink, size: number): boolean;
  }

  const library: { readonly Decoder: new () => Decoder };
  export default library;
}
