import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { capabilityNames } from '../../build/rootfs/capability.js';
import { requireThat, requireTools } from '../support/tools.js';

describe.skipIf(
  !requireTools('setcap', 'getcap', 'python3') ||
    !requireThat(process.getuid?.() === 0, 'root, to set file capabilities'),
)('capabilityNames', () => {
  const empty = Buffer.alloc(0);
  let directory: string;
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), 'capability-'));
  });
  afterAll(() => {
    rmSync(directory, { recursive: true });
  });

  /** What the kernel stores for each capability text, in a file of its own. */
  function stored(texts: readonly string[]): readonly Buffer[] {
    const names = texts.map((_, index) => String(index));
    names.forEach((name) => {
      writeFileSync(join(directory, name), '');
    });
    const run = { cwd: directory, encoding: 'utf8' } as const;
    execFileSync(
      'setcap',
      texts.flatMap((text, index) => [text, String(index)]),
      run,
    );
    const script =
      'import os, sys\nfor name in sys.argv[1:]: print(os.getxattr(name, "security.capability").hex())';
    const lines = execFileSync('python3', ['-I', '-c', script, ...names], run)
      .trimEnd()
      .split('\n');
    expect(lines).toHaveLength(texts.length);
    return texts.map((_, index) => Buffer.from(lines[index] ?? '', 'hex'));
  }

  it.each([
    ['cap_net_raw=ep', ['NET_RAW']],
    ['cap_net_bind_service,cap_net_raw=ep', ['NET_BIND_SERVICE', 'NET_RAW']],
    ['cap_chown,cap_checkpoint_restore=p', ['CHOWN', 'CHECKPOINT_RESTORE']],
    ['cap_syslog,cap_wake_alarm,cap_mac_admin=i', ['MAC_ADMIN', 'SYSLOG', 'WAKE_ALARM']],
    ['cap_setuid=p cap_setgid=i', ['SETGID', 'SETUID']],
  ])('reads what setcap writes for %s', (text, names) => {
    const [value = empty] = stored([text]);
    expect(capabilityNames(value, '/x')).toEqual(names);
  });

  it('reads every capability as getcap names it', () => {
    const last = Number(readFileSync('/proc/sys/kernel/cap_last_cap', 'utf8'));
    const values = stored(Array.from({ length: last + 1 }, (_, number) => `${number}=p`));
    const run = { cwd: directory, encoding: 'utf8' } as const;
    const shown = execFileSync('getcap', [...values.keys()].map(String), run)
      .trimEnd()
      .split('\n');
    expect(values.map((value) => capabilityNames(value, '/x'))).toEqual(
      shown.map((line) => [/ cap_([a-z_]+)=p$/.exec(line)?.[1]?.toUpperCase()]),
    );
  });

  it('reads the revision with a root user id, and refuses other forms', () => {
    const [value = empty] = stored(['cap_net_raw=ep']);
    const namespaced = Buffer.concat([value, Buffer.from([1, 0, 0, 0])]);
    namespaced.writeUInt8(3, 3);
    expect(capabilityNames(namespaced, '/x')).toEqual(['NET_RAW']);
    const first = Buffer.concat([value.subarray(0, 12)]);
    first.writeUInt8(1, 3);
    expect(capabilityNames(first, '/x')).toEqual(['NET_RAW']);
    for (const wrong of [
      empty,
      value.subarray(0, 3),
      value.subarray(0, 12),
      namespaced.subarray(0, 20),
      Buffer.alloc(24),
    ]) {
      expect(() => capabilityNames(wrong, '/x')).toThrow(
        'cannot read the file capability of /x: the attribute has an unknown form',
      );
    }
    expect(capabilityNames(Buffer.from(value).fill(0xff, 16, 20), '/x').at(-1)).toBe('number 63');
  });
});
