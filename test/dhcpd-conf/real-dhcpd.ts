import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { checkConfiguration } from '../../build/dhcpd-conf/check.js';
import type { ServedInterface } from '../../build/dhcpd-conf/interfaces.js';
import type { Problem } from '../../build/dhcpd-conf/problem.js';
import { programOf, unpackPackage } from '../definition/unpack.js';

/** dhcpd of the Debian package, and a directory for configurations that both it and our check read. */
export class RealDhcpd {
  private readonly unpacked = unpackPackage('isc-dhcp-server');
  private readonly program = programOf(this.unpacked, 'dhcpd');
  readonly directory = mkdtempSync(join(tmpdir(), 'dhcpd-conf-'));

  get isThere(): boolean {
    return this.program !== undefined;
  }

  /** Whether the server accepts it, and everything that it says. */
  test(text: string): { readonly accepts: boolean; readonly says: string } {
    const file = this.write(text);
    const { status, stderr } = spawnSync(this.program ?? '', ['-4', '-t', '-cf', file], { encoding: 'utf8' });
    return { accepts: status === 0, says: stderr };
  }

  /**
   * Whether the server starts on an interface `eth0` with these addresses, in a network namespace of its own.
   *
   * @param addresses each as `ADDRESS/LENGTH`
   */
  async starts(text: string, addresses: readonly string[]): Promise<boolean> {
    const { code, says } = await this.serve(text, [
      ...addresses.map((address) => `ip addr add ${address} dev eth0`),
      'exec "$@"',
    ]);
    if (code === null) return true;
    // Anything else that ends it would be a fault of the test's own.
    if (/No subnet declaration|matches multiple shared networks/.test(says)) return false;
    throw new Error(says);
  }

  /**
   * What udhcpc gets from the server, which has 192.0.2.2/24: its variables (`ip`, `lease` in seconds, ...) by name.
   *
   * @param hardware MAC address of the client
   * @param options for udhcpc
   */
  async lease(
    text: string,
    hardware: string,
    options: readonly string[] = [],
  ): Promise<Readonly<Record<string, string>>> {
    const notes = join(this.directory, 'notes.sh');
    const result = join(this.directory, 'lease');
    writeFileSync(notes, `#!/bin/sh\n[ "$1" != bound ] || env >${result}\n`, { mode: 0o755 });
    rmSync(result, { force: true });
    const { says } = await this.serve(
      text,
      [
        `ip link set eth1 address ${hardware}`,
        'ip addr add 192.0.2.2/24 dev eth0',
        '"$@" & trap "kill -9 $!" EXIT',
        `udhcpc -f -q -n -i eth1 -s ${notes} -t 8 -T 1 ${options.join(' ')} >&2`,
      ],
      false,
    );
    if (!existsSync(result)) throw new Error(says);
    const variables = readFileSync(result, 'utf8').matchAll(/^([a-z_]+)=(.*)$/gm);
    return Object.fromEntries([...variables].map(([, name = '', value = '']) => [name, value]));
  }

  /**
   * Runs a script in a network namespace with a pair of interfaces, eth0 and eth1. Its arguments are the server's
   * command line.
   *
   * @param untilReady whether it is killed as soon as the server says that it is ready
   */
  private async serve(
    text: string,
    script: readonly string[],
    untilReady = true,
  ): Promise<{ readonly code: number | null; readonly says: string }> {
    const file = this.write(text);
    const leases = join(this.directory, 'dhcpd.leases');
    writeFileSync(leases, '');
    const links = ['ip link add eth0 type veth peer name eth1', 'ip link set eth0 up', 'ip link set eth1 up'];
    const server = spawn(
      'unshare',
      [
        ...['--net', 'sh', '-e', '-c', [...links, ...script].join('\n'), 'sh'],
        ...[this.program ?? '', '-4', '-f', '-d', '--no-pid', '-cf', file, '-lf', leases, 'eth0'],
      ],
      { stdio: ['ignore', 'ignore', 'pipe'] },
    );
    let says = '';
    return new Promise((resolve, reject) => {
      server.stderr.setEncoding('utf8').on('data', (chunk: string) => {
        says += chunk;
        if (untilReady && says.includes('Server starting service.')) server.kill('SIGKILL');
      });
      server.once('error', reject);
      server.once('close', (code) => {
        resolve({ code, says });
      });
    });
  }

  /** What our check says of the same text. */
  async problems(text: string, interfaces: readonly ServedInterface[] = []): Promise<readonly Problem[]> {
    this.write(text);
    return (await checkConfiguration(this.directory, interfaces)).problems;
  }

  /** Text of a file of the package; of a compressed one, without its `.gz`. */
  read(path: string): string {
    const found = join(this.unpacked?.root ?? '', path);
    return existsSync(found)
      ? readFileSync(found, 'utf8')
      : gunzipSync(readFileSync(`${found}.gz`)).toString();
  }

  remove(): void {
    this.unpacked?.remove();
    rmSync(this.directory, { recursive: true });
  }

  private write(text: string): string {
    const file = join(this.directory, 'dhcpd.conf');
    writeFileSync(file, text);
    return file;
  }
}

export function errorsOf(problems: readonly Problem[]): readonly string[] {
  return shown(problems.filter(({ severity }) => severity === 'error'));
}

/** `LINE:COLUMN: SEVERITY: TEXT` of each. */
export function shown(problems: readonly Problem[]): readonly string[] {
  return problems.map(
    ({ place: { line, column }, severity, text }) =>
      `${String(line)}:${String(column)}: ${severity}: ${text}`,
  );
}
