import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { reasonOf } from '../../support/errors.js';
import { findProgram } from '../../support/exec.js';
import type { Bench } from '../bench.js';
import { must, Skip, type Check } from '../check.js';

export const recordedFirstCheck: Check = {
  name: 'recorded-before-ack',
  promise: 'a lease is on disk before its ACK is on the wire',
  run: async (bench) => {
    const { lab } = bench.site;
    if ((await findProgram('strace', lab.environment['PATH'])) === undefined) {
      throw new Skip('strace is not installed');
    }
    const server = await bench.serve();
    const [process] = await server.container.processes();
    must(process !== undefined, 'it has no process');
    const file = descriptorOf(process.pid, bench.site.kind.leases);
    const calls = await trace(bench, process.pid, () => bench.leaseOf(1));
    mustRecordFirst(calls, file);
  },
};

/** One step of a system call: its beginning, or its successful end. */
export interface TracedCall {
  readonly name: string;
  readonly descriptor: number;
  readonly step: 'begins' | 'ends';
  /** Of its beginning, as strace shows them. */
  readonly text: string;
}

/**
 * What strace(1) has written with `-f -xx`, in the order in which it happened. A call that another thread interrupts is
 * in two lines.
 */
export function tracedCalls(text: string): readonly TracedCall[] {
  const unfinished = new Map<
    string,
    { readonly name: string; readonly descriptor: number; readonly text: string }
  >();
  return text.split('\n').flatMap((line): readonly TracedCall[] => {
    const resumed = /^(\d+) +<\.\.\. (\w+) resumed>.* = (-?\d+)/.exec(line);
    if (resumed !== null) {
      const [, thread = '', , result] = resumed;
      const call = unfinished.get(thread);
      unfinished.delete(thread);
      return call === undefined || Number(result) < 0 ? [] : [{ ...call, step: 'ends' }];
    }
    const [, thread = '', name = '', descriptor = ''] = /^(\d+) +(\w+)\((\d+)/.exec(line) ?? [];
    if (name === '') return [];
    const call = { name, descriptor: Number(descriptor), text: line };
    const begins = { ...call, step: 'begins' as const };
    if (line.endsWith('<unfinished ...>')) {
      unfinished.set(thread, call);
      return [begins];
    }
    return Number(/ = (-?\d+)[^=]*$/.exec(line)?.[1] ?? -1) < 0
      ? [begins]
      : [begins, { ...call, step: 'ends' }];
  });
}

/** Option 53 with the value 5, as `strace -xx` shows bytes. */
const ackOption = String.raw`\x35\x01\x05`;

/** @throws Failure unless the file was written and flushed to disk between the last answer and the ACK */
export function mustRecordFirst(calls: readonly TracedCall[], file: number): void {
  const ack = calls.findIndex(
    ({ name, step, text, descriptor }) =>
      step === 'begins' &&
      descriptor !== file &&
      /^(?:write|send|pwrite)/.test(name) &&
      text.includes(ackOption),
  );
  must(ack >= 0, 'strace has seen no ACK');
  const before = calls.slice(0, ack);
  const written = before.findLastIndex(
    ({ name, descriptor, step }) => descriptor === file && step === 'begins' && /write/.test(name),
  );
  must(written >= 0, 'nothing is written to the lease file before the ACK');
  const flushed = before.findIndex(
    ({ name, descriptor, step }, index) =>
      index > written && descriptor === file && step === 'ends' && /^f(?:data)?sync$/.test(name),
  );
  must(flushed >= 0, 'the lease file is written, but not flushed to disk, before the ACK');
}

/** What the process and its threads do with files and sockets while the work is done. */
async function trace(
  { site, directory }: Bench,
  pid: number,
  work: () => Promise<unknown>,
): Promise<readonly TracedCall[]> {
  const { exec, lab, signal } = site;
  const file = join(directory, 'trace');
  const stop = new AbortController();
  const strace = exec({
    argv: [
      ...(['strace', '-f', '-xx', '-s', '1000', '-o', file, '-p', String(pid)] as const),
      ...['-e', 'trace=write,writev,pwrite64,sendto,sendmsg,sendmmsg,fsync,fdatasync'],
    ],
    environment: lab.environment,
    signal: AbortSignal.any([stop.signal, signal]),
    timeout: 60_000,
  });
  let failed: string | undefined;
  strace.catch((error: unknown) => {
    failed = reasonOf(error);
  });
  try {
    const end = Date.now() + 10_000;
    while (!/^TracerPid:\s*[1-9]/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))) {
      if (failed !== undefined) throw new Skip(`strace may not look at the server: ${failed}`);
      must(Date.now() < end, 'strace does not begin');
      await sleep(10);
    }
    await work();
  } finally {
    stop.abort();
    await strace.catch(() => undefined);
  }
  return tracedCalls(readFileSync(file, 'utf8'));
}

function descriptorOf(pid: number, name: string): number {
  const found = readdirSync(`/proc/${pid}/fd`).find((fd) =>
    readlinkSync(`/proc/${pid}/fd/${fd}`).endsWith(`/${name}`),
  );
  must(found !== undefined, `it does not have ${name} open`);
  return Number(found);
}
