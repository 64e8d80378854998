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
    const file = this.write(text);
    const leases = join(this.directory, 'dhcpd.leases');
    writeFileSync(leases, '');
    const script = [
      'ip link add eth0 type veth peer name eth1',
      'ip link set eth0 up && ip link set eth1 up',
      ...addresses.map((address) => `ip addr add ${address} dev eth0`),
      'exec "$@"',
    ].join('\n');
    const server = spawn(
      'unshare',
      [
        ...['--net', 'sh', '-e', '-c', script, 'sh'],
        ...[this.program ?? '', '-4', '-f', '-d', '--no-pid', '-cf', file, '-lf', leases, 'eth0'],
      ],
      { stdio: ['ignore', 'ignore', 'pipe'] },
    );
    let says = '';
    return new Promise((resolve, reject) => {
      server.stderr.setEncoding('utf8').on('data', (chunk: string) => {
        says += chunk;
        if (says.includes('Server starting service.')) server.kill('SIGKILL');
      });
      server.once('error', reject);
      server.once('close', (code) => {
        if (code === null) resolve(true);
        // Anything else that ends it would be a fault of the test's own.
        else if (/No subnet declaration|matches multiple shared networks/.test(says)) resolve(false);
        else reject(new Error(says));
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
