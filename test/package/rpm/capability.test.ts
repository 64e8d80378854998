import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { capabilityAttribute } from '../../../build/package/rpm/capability.js';
import { requireThat, requireTools } from '../../support/tools.js';

/** What setcap(8) writes for a text; undefined when it refuses. */
function written(text: string): Buffer | undefined {
  const directory = mkdtempSync(join(tmpdir(), 'capability-'));
  const file = join(directory, 'file');
  writeFileSync(file, '');
  try {
    execFileSync('setcap', [text, file], { stdio: 'pipe' });
    return execFileSync('getfattr', ['--absolute-names', '-n', 'security.capability', '--only-values', file]);
  } catch {
    return undefined;
  } finally {
    rmSync(directory, { recursive: true });
  }
}

describe.skipIf(
  !requireTools('setcap', 'getfattr') ||
    !requireThat(process.getuid?.() === 0, 'root, who may give files capabilities'),
)('capabilityAttribute', () => {
  it.each([
    'cap_net_raw=ep',
    'cap_net_raw+ep',
    '= cap_net_raw+ep',
    '=cap_net_raw+ep',
    'cap_net_admin,cap_net_raw=eip',
    'cap_net_admin,cap_net_raw+p',
    'cap_chown=p cap_checkpoint_restore+i',
    'cap_chown=ep cap_chown-e',
    'cap_chown=eip cap_kill+eip',
    'cap_chown,cap_kill=p cap_kill+e',
    'CAP_SYS_ADMIN=ep',
    'cap_setuid,cap_setgid=ep cap_setgid-p',
    'all=ep cap_chown-ep',
    '=ep',
    '=p cap_chown-p',
    'cap_wake_alarm+i-i',
    'cap_net_raw',
    'cap_net_raw+x',
    'cap_of_all=ep',
    'net_raw=ep',
    '+ep',
    '-ep',
    'cap_chown,=ep',
    ',cap_chown=ep',
  ])('makes of %s what setcap(8) makes', (text) => {
    expect(capabilityAttribute(text)?.toString('hex')).toBe(written(text)?.toString('hex'));
  });
});
