const prime1 = 0x9e3779b185ebca87n;
const prime2 = 0xc2b2ae3d27d4eb4fn;
const prime3 = 0x165667b19e3779f9n;
const prime4 = 0x85ebca77c2b2ae63n;
const prime5 = 0x27d4eb2f165667c5n;

const stripeBytes = 32;

/**
 * XXH64 with seed 0, fed in pieces: the checksum of a zstd frame ("xxHash fast digest algorithm", section
 * "XXH64 algorithm description").
 */
export class XxHash64 {
  /** The four accumulators as pairs of 32-bit halves, high half first: BigInt is too slow for every stripe. */
  readonly #lanes = new Int32Array(8);
  readonly #pending = Buffer.alloc(stripeBytes);
  #filled = 0;
  #total = 0;

  constructor() {
    [prime1 + prime2, prime2, 0n, -prime1].forEach((value, lane) => {
      this.#lanes[lane * 2] = Number(BigInt.asIntN(32, value >> 32n));
      this.#lanes[lane * 2 + 1] = Number(BigInt.asIntN(32, value));
    });
  }

  update(data: Uint8Array): void {
    this.#total += data.length;
    const bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
    let at = 0;
    if (this.#filled > 0) {
      at = bytes.copy(this.#pending, this.#filled);
      this.#filled += at;
      if (this.#filled < stripeBytes) return;
      this.#mix(this.#pending, 0);
    }
    for (; bytes.length - at >= stripeBytes; at += stripeBytes) this.#mix(bytes, at);
    this.#filled = bytes.copy(this.#pending, 0, at);
  }

  digest(): bigint {
    let hash = prime5;
    if (this.#total >= stripeBytes) {
      const lanes = [0, 1, 2, 3].map((lane) => this.#lane(lane));
      hash = lanes.reduce((sum, lane, index) => sum + rotate(lane, [1n, 7n, 12n, 18n][index] ?? 0n), 0n);
      for (const lane of lanes) hash = wrap((hash ^ round(0n, lane)) * prime1 + prime4);
    }
    hash = wrap(hash + BigInt(this.#total));
    let at = 0;
    for (; this.#filled - at >= 8; at += 8) {
      hash = wrap(rotate(hash ^ round(0n, this.#pending.readBigUInt64LE(at)), 27n) * prime1 + prime4);
    }
    for (; this.#filled - at >= 4; at += 4) {
      const word = BigInt(this.#pending.readUInt32LE(at));
      hash = wrap(rotate(hash ^ wrap(word * prime1), 23n) * prime2 + prime3);
    }
    for (; at < this.#filled; at += 1) {
      const byte = BigInt(this.#pending.readUInt8(at));
      hash = wrap(rotate(hash ^ wrap(byte * prime5), 11n) * prime1);
    }
    hash = wrap((hash ^ (hash >> 33n)) * prime2);
    hash = wrap((hash ^ (hash >> 29n)) * prime3);
    return hash ^ (hash >> 32n);
  }

  #lane(lane: number): bigint {
    const [high = 0, low = 0] = this.#lanes.subarray(lane * 2, lane * 2 + 2);
    return (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
  }

  /** `round` for the four lanes, in 32-bit halves. */
  #mix(data: Buffer, offset: number): void {
    for (let lane = 0; lane < 4; lane += 1) {
      const inputLow = data.readInt32LE(offset + lane * 8);
      const inputHigh = data.readInt32LE(offset + lane * 8 + 4);
      // input * prime2
      const productLow = Math.imul(inputLow, 0x27d4eb4f);
      const productHigh =
        (productTop(inputLow, 0x27d4eb4f) +
          Math.imul(inputHigh, 0x27d4eb4f) +
          Math.imul(inputLow, 0xc2b2ae3d)) |
        0;
      // accumulator + product
      const sum = ((this.#lanes[lane * 2 + 1] ?? 0) >>> 0) + (productLow >>> 0);
      const sumLow = sum | 0;
      const sumHigh = ((this.#lanes[lane * 2] ?? 0) + productHigh + (sum > 0xffffffff ? 1 : 0)) | 0;
      // rotated left by 31
      const turnedHigh = (sumHigh << 31) | (sumLow >>> 1);
      const turnedLow = (sumLow << 31) | (sumHigh >>> 1);
      // * prime1
      this.#lanes[lane * 2 + 1] = Math.imul(turnedLow, 0x85ebca87);
      this.#lanes[lane * 2] =
        productTop(turnedLow, 0x85ebca87) +
        Math.imul(turnedHigh, 0x85ebca87) +
        Math.imul(turnedLow, 0x9e3779b1);
    }
  }
}

/** The upper 32 bits of the 64-bit product of two unsigned 32-bit numbers. */
function productTop(a: number, b: number): number {
  const aLow = a & 0xffff;
  const aHigh = a >>> 16;
  const bLow = b & 0xffff;
  const bHigh = b >>> 16;
  const middle = aHigh * bLow + ((aLow * bLow) >>> 16);
  const carry = aLow * bHigh + (middle % 0x10000);
  return (aHigh * bHigh + Math.floor(middle / 0x10000) + Math.floor(carry / 0x10000)) | 0;
}

function round(accumulator: bigint, input: bigint): bigint {
  return wrap(rotate(wrap(accumulator + input * prime2), 31n) * prime1);
}

function rotate(value: bigint, bits: bigint): bigint {
  return wrap(value << bits) | (value >> (64n - bits));
}

function wrap(value: bigint): bigint {
  return BigInt.asUintN(64, value);
}
