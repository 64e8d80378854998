import { type ElfBytes, type Window } from './bytes.js';

/**
 * One entry of a `.note.dlopen` note: what an object may load with dlopen
 * (https://systemd.io/ELF_DLOPEN_METADATA).
 */
export interface DlopenNote {
  /** Alternatives, the preferred one first. */
  readonly sonames: readonly string[];
  readonly feature: string | undefined;
  readonly description: string | undefined;
  readonly priority: 'required' | 'recommended' | 'suggested';
}

export interface DlopenNotes {
  readonly notes: readonly DlopenNote[];
  /** What is wrong with notes that could not be read, one line each. */
  readonly problems: readonly string[];
}

/** Where a PT_NOTE segment is, and its alignment: 8 or, for every other value, 4. */
export interface NoteSegment {
  readonly window: Window;
  readonly alignment: 4 | 8;
}

const ownerFdo = Buffer.from('FDO\0');
const typeDlopen = 0x407c0c0a;
/** Notes of one file together; segments may overlap, so the file's size is no bound. */
const maximumNotes = 65_536;
/** Bytes of dlopen notes of one file together. */
const maximumText = 1024 ** 2;

/** @throws ToolError when the notes run out of their segment or are absurdly many */
export function readDlopenNotes(bytes: ElfBytes, segments: readonly NoteSegment[]): DlopenNotes {
  const notes: DlopenNote[] = [];
  const problems: string[] = [];
  let count = 0;
  let text = 0;
  for (const { window, alignment } of segments) {
    const up = (value: number): number => Math.ceil(value / alignment) * alignment;
    for (let at = window.start; at + 12 <= window.end;) {
      count += 1;
      if (count > maximumNotes) throw bytes.broken('its notes are too many');
      const nameSize = bytes.u32(at);
      const size = bytes.u32(at + 4);
      const start = at + up(12 + nameSize);
      if (start + size > window.end) throw bytes.broken('a note is longer than its segment');
      const owner = bytes.view({ start: at + 12, end: at + 12 + nameSize });
      if (bytes.u32(at + 8) === typeDlopen && owner.equals(ownerFdo)) {
        text += size;
        if (text > maximumText) throw bytes.broken('its dlopen notes are too long');
        const json = bytes.view({ start, end: start + size }).toString('utf8');
        // Some writers end the text with a zero and pad with more.
        const end = json.indexOf('\0');
        const entries = parseEntries(end < 0 ? json : json.slice(0, end));
        if (entries === undefined)
          problems.push('its dlopen note is not the JSON the specification asks for');
        else notes.push(...entries);
      }
      at = up(start - at + size) + at;
    }
  }
  return { notes, problems };
}

function parseEntries(json: string): DlopenNote[] | undefined {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch {
    return undefined;
  }
  if (!Array.isArray(value)) return undefined;
  const entries: DlopenNote[] = [];
  for (const item of value as unknown[]) {
    const entry = parseEntry(item);
    if (entry === undefined) return undefined;
    entries.push(entry);
  }
  return entries;
}

function parseEntry(item: unknown): DlopenNote | undefined {
  if (typeof item !== 'object' || item === null) return undefined;
  const sonames: unknown = 'soname' in item ? item.soname : undefined;
  if (!Array.isArray(sonames) || !sonames.every((name) => typeof name === 'string')) return undefined;
  const text = (value: unknown): string | undefined => (typeof value === 'string' ? value : undefined);
  const priority = 'priority' in item ? item.priority : undefined;
  return {
    sonames,
    feature: 'feature' in item ? text(item.feature) : undefined,
    description: 'description' in item ? text(item.description) : undefined,
    // The specification's default is recommended.
    priority: priority === 'required' || priority === 'suggested' ? priority : 'recommended',
  };
}
