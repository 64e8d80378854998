import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fileRole } from '../../build/compare/file-role.js';
import { requireTools } from '../support/tools.js';

describe.skipIf(!requireTools('gcc'))('what a compiler makes', () => {
  let work = '';
  beforeAll(() => {
    work = mkdtempSync(join(tmpdir(), 'role-'));
    writeFileSync(join(work, 'it.c'), 'int main(void) { return 0; }\n');
  });
  afterAll(() => {
    rmSync(work, { recursive: true });
  });

  it.each([
    ['a.out', ['-pie', '-fPIE'], 'program'],
    ['a.out', ['-no-pie'], 'program'],
    ['a.out', ['-static'], 'program'],
    ['a.out', ['-static-pie', '-fPIE'], 'program'],
    ['looks.so', ['-pie', '-fPIE'], 'program'],
    ['libit.so.1', ['-shared', '-fPIC', '-Wl,-soname,libit.so.1'], 'library'],
    ['noname', ['-shared', '-fPIC', '-Wl,-soname,libit.so.1'], 'library'],
    ['plugin.so', ['-shared', '-fPIC'], 'library'],
    ['it.o', ['-c'], 'other'],
  ] as const)('%s of gcc %j is a %s', (name, options, role) => {
    const path = join(work, name);
    execFileSync('gcc', [...options, '-o', path, join(work, 'it.c')]);
    const bytes = readFileSync(path);
    expect(fileRole(bytes, name)).toBe(role);
    // Of a file that is too large to be kept, the beginning says nearly as much.
    if (name !== 'looks.so' && name !== 'noname') expect(fileRole(bytes.subarray(0, 64), name)).toBe(role);
  });

  it('has a loader and a C library, which can be executed and are libraries', () => {
    const interpreter = /interpreter: (\S+)\]/.exec(
      execFileSync('readelf', ['-lW', '/bin/true'], { encoding: 'utf8' }),
    )?.[1];
    for (const path of [
      interpreter ?? '',
      execFileSync('gcc', ['-print-file-name=libc.so.6'], { encoding: 'utf8' }).trim(),
    ]) {
      expect(fileRole(readFileSync(path), basename(path)), path).toBe('library');
    }
  });
});

describe('other files', () => {
  it.each([
    ['#!/bin/sh\n', 'program'],
    ['#! /usr/bin/perl', 'program'],
    ['', 'other'],
    ['#', 'other'],
    ['text', 'other'],
    ['\x7fELF', 'other'],
    ['\x7fELF\x09\x09\x09', 'other'],
  ])('%j is %s', (text, role) => {
    expect(fileRole(Buffer.from(text, 'latin1'), 'it')).toBe(role);
  });
});
