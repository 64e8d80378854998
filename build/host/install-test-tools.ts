import { existsSync, readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { $ } from 'zx';
import { testSupport, testTools } from './test-tools.js';

/**
 * Installs what the tests need on a Debian host, and lets the kernel run programs of the other architecture.
 * Changes nothing when all is there. Without root, or on another distribution, it only says what is missing.
 */

$.verbose = false;
const binfmt = '/proc/sys/fs/binfmt_misc';
const emulated = process.arch === 'arm64' ? 'x86_64' : 'aarch64';

await installPackages();
await registerEmulator();

async function installPackages(): Promise<void> {
  if (!existsSync('/usr/bin/dpkg-query')) {
    say(`this is not Debian; the tests use ${[...testTools.keys()].join(', ')}`);
    return;
  }
  const missing = await missingPackages();
  if (missing.length === 0) {
    say('all packages that the tests need are installed');
    return;
  }
  const command = ['apt-get', 'install', '--yes', '--no-install-recommends', ...missing];
  if (process.getuid?.() !== 0) {
    say(`missing; tests that need them will be skipped. To install: sudo ${command.join(' ')}`);
    return;
  }
  say(`installing ${missing.join(' ')}`);
  const apt = $({ verbose: true, stdio: ['ignore', 'inherit', 'inherit'], env: aptEnvironment() });
  await apt`apt-get update --quiet`;
  await apt`${command}`;
}

async function missingPackages(): Promise<readonly string[]> {
  const wanted = [...new Set([...testTools.values(), ...testSupport])].sort();
  // dpkg-query fails when it does not know one of them, and still reports on the others.
  const { stdout } = await $({
    nothrow: true,
    quiet: true,
  })`dpkg-query --show --showformat ${'${Package} ${db:Status-Status}\\n'} ${wanted}`;
  const installed = new Set(
    stdout
      .split('\n')
      .flatMap((line) => (line.endsWith(' installed') ? [line.slice(0, line.indexOf(' '))] : [])),
  );
  return wanted.filter((name) => !installed.has(name));
}

function aptEnvironment(): NodeJS.ProcessEnv {
  return { ...process.env, DEBIAN_FRONTEND: 'noninteractive', LC_ALL: 'C.UTF-8' };
}

/**
 * Does what systemd-binfmt(8) does at boot, which does not run in a container. The F flag opens the emulator now, so
 * that it is also found inside images that do not hold it.
 */
async function registerEmulator(): Promise<void> {
  const name = `qemu-${emulated}`;
  const root = process.getuid?.() === 0;
  // The kernel's register is one for all containers; what is in it shows when it is mounted.
  if (root && !existsSync(`${binfmt}/register`)) {
    await $({ nothrow: true, quiet: true })`mount -t binfmt_misc binfmt_misc ${binfmt}`;
  }
  if (existsSync(`${binfmt}/${name}`)) {
    say(`programs for ${emulated} run under ${name}`);
    return;
  }
  const rule = `/usr/lib/binfmt.d/${name}.conf`;
  if (!root || !existsSync(rule) || !existsSync(`${binfmt}/register`)) {
    say(`programs for ${emulated} do not run here: tests of that architecture will be skipped`);
    return;
  }
  await writeFile(`${binfmt}/register`, withFixedInterpreter(readFileSync(rule, 'utf8')));
  say(`registered ${name}: programs for ${emulated} run now`);
}

/** @param rule `:name:type:offset:magic:mask:interpreter:flags`, see binfmt_misc in the kernel's admin guide */
function withFixedInterpreter(rule: string): string {
  const line = rule.split('\n').find((candidate) => candidate.startsWith(':')) ?? '';
  const flags = line.slice(line.lastIndexOf(':') + 1);
  return flags.includes('F') ? line : `${line}F`;
}

function say(text: string): void {
  process.stdout.write(`host tools: ${text}\n`);
}
