import { PassThrough } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';

import { formatBytes } from '../../build/support/format.js';
import { createLog, type Log, type LogOptions } from '../../build/support/log.js';
import { baseEnvironment, run } from '../../build/support/exec.js';
import { requireTools } from '../support/tools.js';

function logTo(
  options: { isTTY?: boolean; columns?: number; rows?: number; level?: LogOptions['level'] } = {},
  environment: Record<string, string> = {},
): { log: Log; text: () => string } {
  const { level = 'normal', ...terminal } = options;
  let text = '';
  const stream = Object.assign(new PassThrough(), terminal);
  stream.on('data', (chunk: Buffer) => (text += chunk.toString()));
  return { log: createLog({ stream, environment, level }), text: () => text };
}

describe('lines', () => {
  it('go out by level', () => {
    const shown = (level: LogOptions['level']): string => {
      const { log, text } = logTo({ level });
      log.debug('d');
      log.info('i');
      log.warn('w');
      const task = log.task('libc6 2.36', 2_700_000);
      task.advance(2_700_000);
      task.done();
      log.task('gone', 5).fail();
      return text();
    };
    expect(shown('quiet')).toBe('warning: w\n');
    expect(shown('normal')).toBe('i\nwarning: w\nfetched libc6 2.36 (2.6 MiB)\n');
    expect(shown('debug')).toBe('debug: d\ni\nwarning: w\nfetched libc6 2.36 (2.6 MiB)\n');
  });

  it('show a warning once', () => {
    const { log, text } = logTo();
    for (const message of ['a', 'b', 'a']) log.warn(message);
    expect(text()).toBe('warning: a\nwarning: b\n');
  });

  it('let no name write to the terminal', () => {
    const { log, text } = logTo();
    log.info('a\u001b[2Jb\r\nc\u0007\u009b1m\u202ed\u2066ü日\t');
    log.task('x\u001b]0;title\u0007', 1).done();
    expect(text()).toBe('a?[2Jb??c??1m?d?ü日?\nfetched x?]0;title? (0 B)\n');
  });

  it.each([
    [{ isTTY: true }, {}, true],
    [{ isTTY: true }, { NO_COLOR: '1' }, false],
    [{ isTTY: true }, { NO_COLOR: '' }, true],
    [{ isTTY: true }, { TERM: 'dumb' }, false],
    [{}, {}, false],
    [{}, { FORCE_COLOR: '1' }, true],
    [{}, { FORCE_COLOR: '1', NO_COLOR: '1' }, true],
    [{ isTTY: true }, { FORCE_COLOR: '0' }, false],
    [{ isTTY: true }, { FORCE_COLOR: '' }, true],
  ])('are coloured for %o with %o: %s', (terminal, environment, coloured) => {
    const { log, text } = logTo(terminal, environment);
    log.warn('w');
    expect(text()).toBe(coloured ? '\u001b[33mwarning: \u001b[0mw\n' : 'warning: w\n');
  });
});

/** What a terminal of this width shows in the end, for the sequences that are used here. */
function screen(output: string): string[] {
  const lines = [''];
  let row = 0;
  let column = 0;
  // eslint-disable-next-line no-control-regex -- terminal sequences
  for (const [token] of output.matchAll(/\u001b\[([?0-9;]*)([A-Za-z])|\n|[^\u001b\n]/g)) {
    const control = /^\u001b\[([?0-9;]*)([A-Za-z])$/.exec(token); // eslint-disable-line no-control-regex
    if (token === '\n') [row, column] = [row + 1, 0];
    else if (control === null) {
      lines[row] =
        (lines[row] ?? '').slice(0, column).padEnd(column) + token + (lines[row] ?? '').slice(column + 1);
      column += 1;
    } else if (control[2] === 'A') row = Math.max(0, row - Number(control[1] === '' ? 1 : control[1]));
    else if (control[2] === 'G') column = 0;
    else if (control[2] === 'K') lines[row] = control[1] === '2' ? '' : (lines[row] ?? '').slice(0, column);
    else if (!['m', 'h', 'l'].includes(control[2] ?? '')) throw new Error(JSON.stringify(token));
    lines[row] ??= '';
  }
  return lines.map((line) => line.trimEnd()).filter((line) => line !== '');
}

describe('the live line', () => {
  it('shows all transfers together, below the lines that stay, and goes away', async () => {
    const { log, text } = logTo({ isTTY: true, columns: 100 });
    const first = log.task('libc6 2.36', 4 * 1024 ** 2);
    const second = log.task('isc-dhcp-server 4.4.3', 4 * 1024 ** 2);
    const waiting = log.task('never', undefined);
    first.advance(1024 ** 2);
    await sleep(400);
    expect(screen(text())).toEqual([
      expect.stringMatching(
        /^\[##\.{18}\] {2}0 of 3 files {2}1\.0 MiB of 8\.0 MiB {2}[1-9][0-9.]* [KM]iB\/s {2}libc6 2\.36$/,
      ),
    ]);
    log.info('a line');
    second.advance(3 * 1024 ** 2);
    first.advance(3 * 1024 ** 2);
    first.done();
    await sleep(150);
    expect(screen(text())).toEqual([
      'a line',
      expect.stringMatching(
        /^\[#{17}\.{3}\] {2}1 of 3 files {2}7\.0 MiB of 8\.0 MiB {2}[0-9.]+ MiB\/s {2}isc-dhcp-server 4\.4\.3$/,
      ),
    ]);
    second.advance(-(3 * 1024 ** 2));
    await sleep(150);
    expect(screen(text())[1]).toMatch(/4\.0 MiB of 8\.0 MiB/);
    second.fail();
    second.done();
    waiting.done();
    log.info('the end');
    expect(screen(text())).toEqual(['a line', 'the end']);
    const length = text().length;
    await sleep(250);
    expect(text().length).toBe(length);
  });

  it('shows no rate before anything has come', async () => {
    const { log, text } = logTo({ isTTY: true, columns: 80, rows: 0 });
    const task = log.task('a', 10);
    await sleep(250);
    expect(screen(text())).toEqual([`[${'.'.repeat(20)}]  0 of 1 file  0 B of 10 B`]);
    task.done();
  });

  it('stays on one line of a narrow terminal', async () => {
    const { log, text } = logTo({ isTTY: true, columns: 40 });
    const task = log.task('a-package-with-a-very-long-name 1:2.3', 10);
    task.advance(5);
    await sleep(300);
    expect(screen(text())).toEqual(['[##########..........]  0 of 1 file ...']);
    task.done();
    expect(screen(text())).toEqual([]);
  });

  it('is drawn ten times a second at most', async () => {
    const { log, text } = logTo({ isTTY: true, columns: 80 });
    const task = log.task('a', 1e9);
    const begin = performance.now();
    while (performance.now() - begin < 600) {
      task.advance(1000);
      await sleep(1);
    }
    expect(text().split('[?2026h').length - 1).toBeLessThanOrEqual(6);
    task.done();
  });

  it.each([
    [{ isTTY: true, columns: 80, level: 'quiet' as const }, {}],
    [{ isTTY: true, columns: 80 }, { TERM: 'dumb' }],
    [{ isTTY: true, columns: 0 }, {}],
    [{ columns: 80 }, { FORCE_COLOR: '1' }],
  ])('is not drawn for %o with %o', async (options, environment) => {
    const { log, text } = logTo(options, environment);
    const task = log.task('a', 10);
    await sleep(250);
    expect(text()).toBe('');
    task.done();
  });

  it.skipIf(!requireTools('script'))('keeps no process alive, and works on a real terminal', async () => {
    const code = `
      const { createLog } = await import(${JSON.stringify(new URL('../../dist/support/log.js', import.meta.url).href)});
      const log = createLog({ stream: process.stderr, environment: process.env, level: 'normal' });
      const task = log.task('libc6', 100);
      task.advance(50);
      setTimeout(() => log.task('forgotten', 1), 400);`;
    const begin = performance.now();
    const { stdout } = await run({
      argv: [
        'script',
        '-qec',
        `stty cols 90; exec "${process.execPath}" --input-type=module -e '${code.replaceAll("'", `'\\''`)}'`,
        '/dev/null',
      ],
      environment: { ...baseEnvironment(process.env), TERM: 'xterm' },
    });
    expect(performance.now() - begin).toBeLessThan(5000);
    expect(stdout).toMatch(/\[#{10}\.{10}\] {2}0 of 1 file {2}50 B of 100 B {2}[1-9]\d* B\/s {2}libc6/);
  });
});

describe('formatBytes', () => {
  it.each([
    [0, '0 B'],
    [-5, '0 B'],
    [1023, '1023 B'],
    [1024, '1.0 KiB'],
    [10_200, '10 KiB'],
    [1024 ** 2 - 1, '1.0 MiB'],
    [2_730_000, '2.6 MiB'],
    [13 * 1024 ** 2, '13 MiB'],
    [5 * 1024 ** 3, '5.0 GiB'],
    [5 * 1024 ** 5, '5120 TiB'],
  ])('%d is %s', (bytes, text) => {
    expect(formatBytes(bytes)).toBe(text);
  });
});
