#!/usr/bin/env node
import { fileURLToPath } from 'node:url';
import { Command, CommanderError, Option } from 'commander';
import type { Context } from './commands/context.js';
import type { DoctorOptions } from './commands/doctor.js';
import type { BuildOptions } from './commands/build.js';
import type { CheckOptions } from './commands/check.js';
import type { CompareOptions } from './commands/compare.js';
import type { QuadletOptions } from './commands/quadlet.js';
import type { ImageOptions } from './commands/request.js';
import type { SmokeOptions } from './commands/smoke.js';
import { families } from './definition/definition.js';
import { cannot, hintOf, reasonOf, ToolError } from './support/errors.js';
import { createLog } from './support/log.js';
import { version } from './support/version.js';

interface GlobalOptions {
  readonly json?: boolean;
  readonly quiet?: boolean;
  readonly debug?: boolean;
}

/** Of the commands that may use the lock file; `lock` itself never does. */
const locked = ['--locked', 'use exactly the packages of the lock file, or fail'] as const;

/** Exit codes as a shell shows them: 128 and the signal's number. */
const exitCodes = { SIGHUP: 129, SIGINT: 130, SIGTERM: 143 } as const;
/** Milliseconds that a second signal leaves for tidying up. */
const patience = 10_000;

const interruption = new AbortController();
for (const signal of ['SIGHUP', 'SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    if (!interruption.signal.aborted) {
      interruption.abort(new ToolError(`stopped by ${signal}`));
      process.exitCode = exitCodes[signal];
      return;
    }
    // Who asks twice is in a hurry; but a working container is not to stay behind for that.
    setTimeout(() => process.exit(report(interruption.signal.reason)), patience).unref();
  });
}
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  // The reader of a pipe, such as head, has gone: nothing is left to say.
  if (error.code === 'EPIPE') process.exit(0);
  process.exitCode = report(cannot('write', 'standard output', reasonOf(error), { cause: error }));
});
// Nobody can be told, but the work and its exit code stay.
process.stderr.on('error', () => undefined);

try {
  await createProgram().parseAsync();
} catch (error) {
  process.exitCode = report(error);
}

function createProgram(): Command {
  const program = new Command('dhcpd-scratch')
    .description('Build container images that hold one server and nothing it does not need.')
    .version(version)
    .exitOverride()
    // Help for a command without its subcommand goes to stderr by itself; errors are put into our own words.
    .configureOutput({ outputError: () => undefined })
    .showHelpAfterError(false)
    .helpCommand(false);

  imageCommand(program, 'build', 'build the image and write it as an OCI layout and an oci-archive')
    .option(...locked)
    .option('-o, --output <dir>', 'directory for the results', 'out')
    .addOption(
      new Option('--engine <engine>', 'what makes the image')
        .choices(['auto', 'oci', 'buildah'])
        .default('auto'),
    )
    .addOption(
      new Option('--compression <method>', 'of the layer').choices(['gzip', 'zstd', 'none']).default('gzip'),
    )
    .option('--reference <name>', 'name of the image (default: localhost/NAME:latest)')
    .action(async (definition: string, options: BuildOptions & GlobalOptions) => {
      const { build } = await import('./commands/build.js');
      await build(definition, options, contextOf(options));
    });

  imageCommand(program, 'plan', 'show every file of the image with its size, owner and reason; write nothing')
    .option(...locked)
    .action(async (definition: string, options: ImageOptions & GlobalOptions) => {
      const { plan } = await import('./commands/plan.js');
      await plan(definition, options, contextOf(options));
    });

  const why = program.command('why').description('show the chain from the server to one file of the image');
  why.argument('<path>', 'a path in the image, such as /lib64/libc.so.6');
  imageOptions(why)
    .option(...locked)
    .action(async (path: string, definition: string, options: ImageOptions & GlobalOptions) => {
      const command = await import('./commands/why.js');
      await command.why(path, definition, options, contextOf(options));
    });

  imageCommand(program, 'lock', 'choose the newest packages again and write the lock file').action(
    async (definition: string, options: ImageOptions & GlobalOptions) => {
      const { lock } = await import('./commands/lock.js');
      await lock(definition, options, contextOf(options));
    },
  );

  globalOptions(
    program
      .command('compare')
      .description('put two images side by side: size, files, packages, programs, and time to first OFFER'),
  )
    .argument('[a]', 'OCI layout or oci-archive', 'out/dhcpd.oci.tar')
    .argument('[b]', 'the other one', 'out/dhcpd-fedora.oci.tar')
    .option('--arch <name>', 'architecture (default: this machine’s)')
    .option('--no-offer', 'do not start the images')
    .action(async (a: string, b: string, options: CompareOptions & GlobalOptions) => {
      const { compare } = await import('./commands/compare.js');
      await compare(a, b, options, contextOf(options));
    });

  quadletCommand(program);

  globalOptions(
    program.command('check').description('check a dhcpd.conf and what it includes, without a server'),
  )
    .option('--config <dir>', 'directory that holds dhcpd.conf, the container’s /etc/dhcp', '/etc/dhcp')
    .addOption(
      repeated(
        '--interface <name>',
        'interface to serve, as NAME=ADDRESS/LENGTH, or NAME of one of this host; may be repeated',
      ),
    )
    .action(async (options: CheckOptions & GlobalOptions) => {
      const { check } = await import('./commands/check.js');
      await check(options, contextOf(options));
    });

  globalOptions(
    program
      .command('smoke')
      .description('run the image in a lab with real clients, and check what it must do and must never do'),
  )
    .argument('[definition]', 'path of a definition, or the name of one that comes with the program', 'dhcpd')
    .option('--arch <names>', 'architectures, separated by commas (default: this machine’s)')
    .option('--image <image>', 'oci-archive, OCI layout or reference (default: out/NAME.oci.tar)')
    .option('--only <names>', 'these checks alone, separated by commas')
    .option('--list', 'show the checks and what each one promises; run nothing')
    .action(async (definition: string, options: SmokeOptions & GlobalOptions) => {
      const { smoke } = await import('./commands/smoke.js');
      await smoke(definition, options, contextOf(options));
    });

  globalOptions(
    program.command('doctor').description('show what this host can do, and what to install for more'),
  )
    .addOption(distroOption())
    .addOption(mirrorOption('ask this archive instead of the host’s own sources'))
    .option('--suite <name>', 'release to ask for')
    .option('--keyring <file>', 'OpenPGP keys that must have signed the archive')
    .option('--offline', 'do not ask the archive')
    .action(async (options: DoctorOptions & GlobalOptions) => {
      const { doctor } = await import('./commands/doctor.js');
      await doctor(options, contextOf(options));
    });

  const cache = program.command('cache').description('the store of downloaded packages').helpCommand(false);
  globalOptions(cache.command('clean').description('remove everything from the cache')).action(
    async (options: GlobalOptions) => {
      const { cleanCache } = await import('./commands/cache.js');
      await cleanCache(options, contextOf(options));
    },
  );
  return program;
}

function quadletCommand(program: Command): void {
  const command = program
    .command('quadlet')
    .description('write the systemd and Podman units that run the image as a service of root')
    .argument('[definition]', 'path of a definition, or the name of one that comes with the program', 'dhcpd')
    .addOption(repeated('--interface <names>', 'interfaces to serve, separated by commas; may be repeated'))
    .option('--image <ref>', 'image to run (default: localhost/NAME:latest)')
    .addOption(distroOption('whose packages are in the image, which decides where its leases are'))
    .option('--config <dir>', 'directory of the configuration on the host (default: as in the image)')
    .option('--leases <dir>', 'directory of the host for the leases, in place of a volume')
    .option('--name <name>', 'of the service and its container (default: the definition’s)')
    .option(
      '--podman-version <version>',
      'of the host, 4.4 or later (default: as it is here, else the newest known)',
    )
    .option('--macvlan <parent>', 'make a network for containers on this interface too, and serve it')
    .option('--shim-address <address>', 'of the host in that network, with its prefix: 192.0.2.3/24')
    .option('--butane', 'write a machine of Fedora CoreOS: NAME.bu for Butane, NAME.ign for Ignition')
    .option('--config-from <dir>', 'whose files that machine has as configuration (default: the example)')
    .option('--rootless', 'is refused, and the reason said')
    .option('-o, --output <dir>', 'where the files go; /etc installs them', 'quadlet')
    .option('--check', 'write nothing, and fail if the files there are not the same');
  globalOptions(command).action(async (definition: string, options: QuadletOptions & GlobalOptions) => {
    const { quadlet } = await import('./commands/quadlet.js');
    await quadlet(definition, options, contextOf(options));
  });
}

function imageCommand(program: Command, name: string, description: string): Command {
  return imageOptions(program.command(name).description(description));
}

function imageOptions(command: Command): Command {
  command
    .argument('[definition]', 'path of a definition, or the name of one that comes with the program', 'dhcpd')
    .option('--arch <names>', 'architectures, separated by commas (default: this machine’s)')
    .addOption(distroOption())
    .addOption(mirrorOption('archive to use instead of the host’s own sources'))
    .option('--suite <name>', 'release, such as trixie or 45 (default: the definition’s, or the host’s)')
    .option('--keyring <file>', 'OpenPGP keys that must have signed the archive, or its packages')
    .option('--lock-file <file>', 'lock file (default: beside the definition)')
    .option('--offline', 'use the cache alone');
  return globalOptions(command);
}

function distroOption(description = 'whose packages'): Option {
  return new Option('--distro <family>', `${description}; auto is the host’s family, and Fedora elsewhere`)
    .choices(['auto', ...families])
    .default('auto');
}

function mirrorOption(description: string): Option {
  return repeated('--mirror <url>', `${description}; may be repeated`);
}

function repeated(flags: string, description: string): Option {
  const all = (value: string, before: readonly string[] | undefined): readonly string[] => [
    ...(before ?? []),
    value,
  ];
  return new Option(flags, description).argParser(all);
}

function globalOptions(command: Command): Command {
  return command
    .option('--json', 'print one JSON document')
    .option('-q, --quiet', 'say nothing but warnings and the result')
    .option('--debug', 'say more, and show where an error came from');
}

function contextOf(options: GlobalOptions): Context {
  return {
    log: createLog({
      stream: process.stderr,
      environment: process.env,
      level: options.debug === true ? 'debug' : options.quiet === true ? 'quiet' : 'normal',
    }),
    print: (text) => {
      process.stdout.write(text);
    },
    environment: process.env,
    cwd: currentDirectory(),
    hostArchitecture: process.arch,
    packageDirectory: fileURLToPath(new URL('..', import.meta.url)),
    signal: interruption.signal,
    now: new Date(),
  };
}

function currentDirectory(): string {
  try {
    return process.cwd();
  } catch (error) {
    throw cannot('find', 'the current directory', reasonOf(error), {
      cause: error,
      hint: 'change to one that exists',
      exitCode: 2,
    });
  }
}

/** Prints one line for the user and gives the exit code: 2 for usage and definitions, 1 for failed work. */
function report(error: unknown): number {
  if (error instanceof CommanderError) {
    if (error.exitCode === 0) return 0;
    if (error.code !== 'commander.help') {
      const reason = error.message.replace(/^error: /, '').replace(/\s*\n\s*/g, ' ');
      process.stderr.write(
        `error: cannot read the command line: ${reason}; see ${helpFor(process.argv[2])}\n`,
      );
    }
    return 2;
  }
  const stopped = interruption.signal.aborted;
  if (error instanceof ToolError && error.details.length > 0) {
    for (const detail of error.details) process.stderr.write(`error: ${detail}\n`);
  } else {
    const hint = stopped ? undefined : hintOf(error);
    const message = stopped
      ? reasonOf(interruption.signal.reason)
      : error instanceof ToolError
        ? error.message
        : `internal error: ${reasonOf(error)}`;
    process.stderr.write(`error: ${message}${hint === undefined ? '' : `; ${hint}`}\n`);
  }
  if (process.argv.includes('--debug') && error instanceof Error) {
    for (let cause: unknown = error; cause instanceof Error; cause = cause.cause) {
      process.stderr.write(`${cause.stack ?? cause.message}\n`);
    }
  }
  if (stopped) return Number(process.exitCode ?? 1);
  return error instanceof ToolError ? error.exitCode : 1;
}

function helpFor(name: string | undefined): string {
  const isCommand = createProgram().commands.some((command) => command.name() === name);
  return isCommand ? `npx dhcpd-scratch ${name ?? ''} --help` : 'npx dhcpd-scratch --help';
}
