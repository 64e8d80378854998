import { open, type FileHandle } from 'node:fs/promises';

/**
 * The log that QEMU's block driver `blklogwrites` keeps of everything a guest does to its disk, in the format of the
 * kernel's dm-log-writes (Documentation/admin-guide/device-mapper/log-writes.rst): a super block, then entries. Each
 * entry is one sector of description and, for a write, the data.
 */
const magic = 0x6a_7366_7773_6872n;
const sectorSize = 512;
const flushFlag = 1n;
const discardFlag = 4n;

interface Entry {
  /** Bytes, on the guest's disk. */
  readonly to: number;
  readonly length: number;
  /** Bytes, in the log. */
  readonly data: number;
  readonly isFlush: boolean;
  readonly isDiscard: boolean;
}

/** What a disk does on its own: pieces of this size are written whole or not at all. */
const atom = 4096;

/** What became of the writes that no flush had covered. */
export interface Unflushed {
  readonly written: number;
  readonly dropped: number;
}

/**
 * Brings a disk into a state in which a power cut may leave it: every write before the last flush is there, and of
 * those after it any part, for a disk writes out of its cache in the order that it likes.
 *
 * @param keeps decides on each piece of an unflushed write
 */
export async function replayLog(logFile: string, diskFile: string, keeps: () => boolean): Promise<Unflushed> {
  const log = await open(logFile, 'r');
  try {
    const disk = await open(diskFile, 'r+');
    try {
      return await replay(log, disk, keeps);
    } finally {
      await disk.close();
    }
  } finally {
    await log.close();
  }
}

async function replay(log: FileHandle, disk: FileHandle, keeps: () => boolean): Promise<Unflushed> {
  const entries = await entriesOf(log);
  const flushed = entries.findLastIndex(({ isFlush }) => isFlush);
  let [written, dropped] = [0, 0];
  for (const [index, { to, length, data, isDiscard }] of entries.entries()) {
    // What is in a discarded place is the disk's own business: here, what was there.
    if (isDiscard || length === 0) continue;
    const bytes = Buffer.alloc(length);
    const { bytesRead } = await log.read(bytes, 0, length, data);
    if (bytesRead !== length) break; // cut in the middle of the log
    if (index < flushed) {
      await disk.write(bytes, 0, length, to);
      continue;
    }
    for (let at = 0; at < length; at += atom) {
      if (!keeps()) {
        dropped += 1;
        continue;
      }
      await disk.write(bytes, at, Math.min(atom, length - at), to + at);
      written += 1;
    }
  }
  return { written, dropped };
}

/** All entries up to the place where the emulator was stopped: behind it the log was never written. */
async function entriesOf(log: FileHandle): Promise<readonly Entry[]> {
  const head = Buffer.alloc(sectorSize);
  await log.read(head, 0, sectorSize, 0);
  // Without a single flush there is no super block.
  if (head.readBigUInt64LE(0) === 0n) return [];
  if (head.readBigUInt64LE(0) !== magic || head.readUInt32LE(24) !== sectorSize)
    throw new Error('the log of writes is none');
  const entries: Entry[] = [];
  for (let at = sectorSize; ;) {
    const { bytesRead } = await log.read(head, 0, sectorSize, at);
    const [sector, sectors, flags] = [0, 8, 16].map((offset) => head.readBigUInt64LE(offset));
    if (bytesRead < sectorSize || sector === undefined || sectors === undefined || flags === undefined) break;
    if (sectors === 0n && flags === 0n) break;
    const isDiscard = (flags & discardFlag) !== 0n;
    const length = Number(sectors) * sectorSize;
    entries.push({
      ...{ to: Number(sector) * sectorSize, length, data: at + sectorSize },
      ...{ isFlush: (flags & flushFlag) !== 0n, isDiscard },
    });
    at += sectorSize + (isDiscard ? 0 : length);
  }
  return entries;
}
