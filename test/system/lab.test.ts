import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { run, type Command } from '../../build/support/exec.js';
import { labEnvironment, openLab, serverAddress } from '../support/lab.js';
import { requireThat, requireTools } from '../support/tools.js';

const ready = requireThat(process.getuid?.() === 0, 'root, for network namespaces') && requireTools('ip');

describe.skipIf(!ready)('the lab', () => {
  it('has two hosts that see each other and nothing else', async () => {
    const lab = await openLab(run);
    try {
      const addresses = async (namespace: string): Promise<string> =>
        (await ip('-n', namespace, '-br', 'addr')).stdout;
      expect(await addresses(lab.server.namespace)).toMatch(
        new RegExp(`^lan0\\S* +UP +${serverAddress}/24`, 'm'),
      );
      expect((await addresses(lab.client.namespace)).match(/^\S+/gm)).toEqual([
        'lo',
        expect.stringMatching(/^lan0/),
      ]);
    } finally {
      await lab.close();
    }
  });

  it('takes everything away again, with the programs that run in it', async () => {
    const [lab, other] = [await openLab(run), await openLab(run)];
    const { namespace } = lab.client;
    const program = spawn('ip', ['netns', 'exec', namespace, 'sleep', '1000'], { stdio: 'ignore' });
    const ended = once(program, 'exit');
    await expect.poll(async () => (await ip('netns', 'pids', namespace)).stdout.trim()).not.toBe('');
    await lab.close();
    expect((await ended)[1]).toBe('SIGKILL');
    expect(existsSync(`/run/netns/${namespace}`)).toBe(false);
    expect(existsSync(lab.directory)).toBe(false);
    expect(existsSync(`/run/netns/${other.client.namespace}`)).toBe(true);
    await other.close();
  });

  it('leaves nothing behind when it cannot be set up', async () => {
    const before = (await ip('netns', 'list')).stdout;
    const broken = (command: Command): ReturnType<typeof run> =>
      command.argv.includes('veth') ? Promise.reject(new Error('no veth')) : run(command);
    await expect(openLab(broken)).rejects.toThrow('no veth');
    const own = new RegExp(`^dhcpd-lab-${process.pid}-.*$`, 'gm');
    expect((await ip('netns', 'list')).stdout.match(own)).toEqual(before.match(own));
  });

  it('removes what a killed process left, and nothing of a living one', async () => {
    const program = spawn('true');
    await once(program, 'exit');
    const dead = `dhcpd-lab-${program.pid ?? 0}-1`;
    const living = `dhcpd-lab-${process.ppid}-1`;
    for (const name of [dead, living]) {
      await ip('netns', 'add', `${name}-server`);
      await mkdir(join(tmpdir(), `${name}-directory`));
    }
    try {
      await (await openLab(run)).close();
      expect(existsSync(`/run/netns/${dead}-server`)).toBe(false);
      expect(existsSync(join(tmpdir(), `${dead}-directory`))).toBe(false);
      expect(existsSync(`/run/netns/${living}-server`)).toBe(true);
      expect(existsSync(join(tmpdir(), `${living}-directory`))).toBe(true);
    } finally {
      await ip('netns', 'delete', `${living}-server`);
      await rm(join(tmpdir(), `${living}-directory`), { recursive: true });
    }
  });
});

function ip(...args: readonly string[]): ReturnType<typeof run> {
  return run({ argv: ['ip', ...args], environment: labEnvironment });
}
