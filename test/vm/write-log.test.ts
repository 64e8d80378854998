import { copyFile, mkdtemp, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { replayLog } from '../../build/host/test-vm/write-log.js';
import { baseEnvironment, run } from '../../build/support/exec.js';
import { requireTools } from '../support/tools.js';

const page = 4096;
let directory = '';
let [disk, log] = ['', ''];

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'write-log-'));
  [disk, log] = [join(directory, 'disk'), join(directory, 'log')];
  for (const path of [disk, log]) {
    await writeFile(path, '');
    await truncate(path, 1024 ** 2);
  }
});
afterEach(() => rm(directory, { recursive: true, force: true }));

describe.skipIf(!requireTools('qemu-io'))('a disk after a power cut', () => {
  it('has what was flushed, and of the rest what it had a mind to write', async () => {
    await write('write -P 1 0 8k', 'flush', 'write -P 2 4k 8k', 'write -P 3 16k 4k');
    expect(await replay(() => false)).toEqual({ written: 0, dropped: 3 });
    expect(await pages(5)).toEqual([1, 1, 0, 0, 0]);
  });

  it('may have all of it', async () => {
    await write('write -P 1 0 8k', 'flush', 'write -P 2 4k 8k', 'write -P 3 16k 4k');
    expect(await replay(() => true)).toEqual({ written: 3, dropped: 0 });
    expect(await pages(5)).toEqual([1, 2, 2, 0, 3]);
  });

  it('may have any part of a write, and a later one without an earlier one', async () => {
    await write('write -P 1 0 8k', 'flush', 'write -P 2 4k 8k', 'write -P 3 16k 4k');
    const keeps = [false, true, true];
    await replay(() => keeps.shift() ?? false);
    expect(await pages(5)).toEqual([1, 1, 2, 0, 3]);
  });

  it('has zeros where zeros were written, and what it had where nothing is wanted any more', async () => {
    await write('write -P 1 0 16k', 'write -z 4k 4k', 'discard 8k 4k', 'flush');
    await replay(() => false);
    expect(await pages(4)).toEqual([1, 0, 1, 1]);
  });

  it('is as it was when nothing was written', async () => {
    await write('flush');
    expect(await replay(() => true)).toEqual({ written: 0, dropped: 0 });
    expect(await pages(2)).toEqual([0, 0]);
  });
});

/** Has QEMU do this to a copy of the disk and log it, and crash. */
async function write(...commands: readonly string[]): Promise<void> {
  const overlay = join(directory, 'overlay');
  await copyFile(disk, overlay);
  const options = `driver=blklogwrites,file.driver=file,file.filename=${overlay},log.driver=file,log.filename=${log}`;
  const argv: [string, ...string[]] = [
    ...(['qemu-io', '--image-opts', '-t', 'writeback', '-d', 'unmap'] as const),
    ...[...commands, 'abort'].flatMap((command) => ['-c', command]),
    options,
  ];
  await expect(run({ argv, environment: baseEnvironment(process.env), timeout: 20_000 })).rejects.toThrow(
    /SIGABRT/,
  );
}

function replay(keeps: () => boolean): ReturnType<typeof replayLog> {
  return replayLog(log, disk, keeps);
}

/** The first byte of each page, when all of them are the same. */
async function pages(count: number): Promise<readonly number[]> {
  const bytes = await readFile(disk);
  return Array.from({ length: count }, (_, index) => {
    const own = bytes.subarray(index * page, (index + 1) * page);
    const first = own[0] ?? -1;
    return own.every((byte) => byte === first) ? first : -1;
  });
}
