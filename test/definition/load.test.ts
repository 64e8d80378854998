import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { constants, tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { Ajv } from 'ajv';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { families, type ImageDefinition } from '../../build/definition/definition.js';
import { loadDefinition } from '../../build/definition/load.js';
import { ToolError } from '../../build/support/errors.js';
import { requireThat, requireTools } from '../support/tools.js';
import { schema, type Field } from './schema.js';

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'definition-'));
});
afterAll(async () => {
  await rm(directory, { recursive: true });
});

const least = `name: dhcpd
title: ISC DHCP server
packages:
  debian: { package: isc-dhcp-server }
roots: [dhcpd]
user: { name: dhcpd, id: 177 }
`;

async function load(text: string | Uint8Array): Promise<ImageDefinition> {
  const file = join(directory, 'image.yaml');
  await writeFile(file, text);
  return loadDefinition(file);
}

async function failure(promise: Promise<unknown>): Promise<ToolError> {
  const error: unknown = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!(error instanceof ToolError)) throw new Error(`no ToolError: ${String(error)}`, { cause: error });
  expect(error.exitCode).toBe(2);
  expect(error.message).not.toMatch(/[\n\r]/);
  return error;
}

/** Every problem of a text, without the file name. */
async function problems(text: string): Promise<readonly string[]> {
  const { details } = await failure(load(text));
  return details.map((line) => {
    expect(line.startsWith(`${directory}/image.yaml:`)).toBe(true);
    return line.slice(directory.length + '/image.yaml:'.length);
  });
}

describe('a good definition', () => {
  it('keeps every field', async () => {
    const text = `${least}description: >-
  Two lines
  in one
url: https://www.isc.org/dhcp/
licenses: MPL-2.0
from: scratch
dlopen: [{ by: liba.so.1, loads: [libb.so.2] }, { by: libc.so.6, loads: [] }]
files: [/usr/share/x/data]
config: /etc/dhcp
state: { volume: leases, files: [dhcpd.leases] }
ports: [67/udp, 53/tcp]
capabilities: [NET_RAW]
command: [--port=0]
listen: [-i, '{interface}']
check: [-t]
environment: { TZ: UTC, LEVEL: 007 }
stop: SIGINT
inventory: false
`.replace('isc-dhcp-server }', 'isc-dhcp-server, release: bookworm, state: /var/lib/dhcp }');
    expect(await load(text)).toEqual({
      file: join(directory, 'image.yaml'),
      sha256: createHash('sha256').update(text).digest('hex'),
      name: 'dhcpd',
      title: 'ISC DHCP server',
      description: 'Two lines in one',
      url: 'https://www.isc.org/dhcp/',
      licenses: 'MPL-2.0',
      packages: { debian: { release: 'bookworm', package: 'isc-dhcp-server', state: '/var/lib/dhcp' } },
      roots: ['dhcpd'],
      dlopen: [
        { by: 'liba.so.1', loads: ['libb.so.2'] },
        { by: 'libc.so.6', loads: [] },
      ],
      files: ['/usr/share/x/data'],
      user: { name: 'dhcpd', id: 177 },
      config: '/etc/dhcp',
      state: { volume: 'leases', files: ['dhcpd.leases'] },
      ports: ['67/udp', '53/tcp'],
      capabilities: ['NET_RAW'],
      run: [],
      command: ['--port=0'],
      listen: ['-i', '{interface}'],
      check: ['-t'],
      environment: new Map([
        ['TZ', 'UTC'],
        ['LEVEL', '007'],
      ]),
      stopSignal: 'SIGINT',
      inventory: false,
    });
  });

  it('takes the defaults that the schema documents', async () => {
    const definition = await load(least);
    const filled = {
      dlopen: definition.dlopen,
      files: definition.files,
      ports: definition.ports,
      capabilities: definition.capabilities,
      run: definition.run,
      command: definition.command,
      listen: definition.listen,
      check: definition.check,
      environment: Object.fromEntries(definition.environment),
      stop: definition.stopSignal,
      inventory: definition.inventory,
      from: 'scratch',
    };
    const documented = Object.entries(schema.properties).flatMap(([name, field]) =>
      field.default === undefined ? [] : [[name, field.default]],
    );
    expect(filled).toEqual(Object.fromEntries(documented));
    expect(definition.packages.debian?.release).toBe('host');
    expect(schema.properties['packages']?.properties?.['debian']?.properties?.['release']?.default).toBe(
      'host',
    );
    expect([definition.description, definition.url, definition.licenses]).toEqual([
      undefined,
      undefined,
      undefined,
    ]);
    expect([definition.config, definition.state]).toEqual([undefined, undefined]);
  });

  it('hands arguments on as they are spelt', async () => {
    const { run, environment } = await load(
      `${least}run: [-4, -f, 0x1F, 007, +1, 1e3, 12345678901234567890, '5', "a b", yes, ~x, '']\nenvironment: { MASK: 0o22 }\n`,
    );
    expect(run).toEqual([
      ...'-4 -f 0x1F 007 +1 1e3 12345678901234567890 5'.split(' '),
      'a b',
      'yes',
      '~x',
      '',
    ]);
    expect(environment.get('MASK')).toBe('0o22');
  });

  it('hands any whole number on as it is spelt', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.bigInt()), async (numbers) => {
        const { command } = await load(`${least}command: [${numbers.join(', ')}]\n`);
        expect(command).toEqual(numbers.map(String));
      }),
      { numRuns: 50 },
    );
  });

  it('follows aliases, each to the anchor before it', async () => {
    const { run, command, roots } = await load(
      `${least.replace('[dhcpd]', '&r [dhcpd]')}run: &x [&y -4, -f]\ncommand: [*y, &y other, *y]\ncapabilities: []\n`,
    );
    expect([roots, run, command]).toEqual([['dhcpd'], ['-4', '-f'], ['-4', 'other', 'other']]);
  });

  it('has an absolute path, wherever it was asked for', async () => {
    await load(least);
    const path = relative(process.cwd(), join(directory, 'image.yaml'));
    expect((await loadDefinition(path)).file).toBe(join(directory, 'image.yaml'));
  });

  it('may begin with a byte order mark and end its lines with CR LF', async () => {
    expect((await load(`\ufeff${least.replaceAll('\n', '\r\n')}`)).name).toBe('dhcpd');
  });
});

describe('the shape of a definition', () => {
  const port = 'expected a port from 1 to 65535 and its protocol such as 67/udp or 53/tcp';
  const id =
    'expected a number from 1 to 65533 (0 is root, which a service must not run as; 65534 is nobody)';
  const path =
    'expected an absolute path such as /etc/dhcp, without empty, . or .. parts, a final / or control characters';
  const capability = 'expected a name of capabilities(7) without the CAP_ prefix such as NET_RAW';
  const argument = 'expected text of at most 4096 printable characters, or a whole number';
  const fileName = 'expected a file name, without directories or control characters';

  // [what replaces a line of `least` (by its first word), or follows it; the problem]
  const cases: readonly (readonly [string, string])[] = [
    [
      'name: Dhcpd',
      '1:7: name: expected a name of lower-case letters, digits and single hyphens such as dhcpd, found "Dhcpd"',
    ],
    [
      'name: a--b',
      '1:7: name: expected a name of lower-case letters, digits and single hyphens such as dhcpd, found "a--b"',
    ],
    [
      'name: 12',
      '1:7: name: expected a name of lower-case letters, digits and single hyphens such as dhcpd, found 12 (quotes make it text: "12")',
    ],
    ['title:', '2:7: title: expected one line of 1 to 500 printable characters, found nothing'],
    [
      'title: "a\\u0007b"',
      '2:8: title: expected one line of 1 to 500 printable characters, found "a\\u0007b"',
    ],
    [
      'roots: []',
      '5:8: roots: expected a list of at least one program, each once, such as [dhcpd], found an empty list',
    ],
    [
      'roots: [a, a]',
      '5:12: roots[1]: expected a list of at least one program, each once, such as [dhcpd], found "a" again',
    ],
    ['roots: [/usr/sbin/dhcpd]', `5:9: roots[0]: ${fileName}, found "/usr/sbin/dhcpd"`],
    ['roots: [..]', `5:9: roots[0]: ${fileName}, found ".."`],
    ['user: { name: dhcpd, id: 0 }', `6:26: user.id: ${id}, found 0`],
    ['user: { name: dhcpd, id: 65534 }', `6:26: user.id: ${id}, found 65534`],
    ['user: { name: dhcpd, id: 1.5 }', `6:26: user.id: ${id}, found 1.5`],
    ['user: { name: dhcpd }', `6:7: user.id: ${id}, found nothing`],
    [
      'user: { name: root, id: 1 }',
      '6:15: user.name: expected an account name such as dhcpd: lower-case letters, digits, _ and -, and neither root nor nobody, found "root"',
    ],
    ['user: dhcpd', '6:7: user: expected a mapping such as {name: dhcpd, id: 177}, found "dhcpd"'],
    [
      'user: { name: dhcpd, id: 7, gid: 7 }',
      '6:29: user.gid: expected a known field, found "gid"; did you mean id?',
    ],
    ['root: [x]', '7:1: root: expected a known field, found "root"; did you mean roots?'],
    ['zzzzz: 1', `7:1: zzzzz: expected one of ${Object.keys(schema.properties).join(', ')}, found "zzzzz"`],
    [
      '__proto__: { a: b }',
      `7:1: __proto__: expected one of ${Object.keys(schema.properties).join(', ')}, found "__proto__"`,
    ],
    [
      'from: fedora',
      '7:7: from: expected scratch, or the name of an image with its registry such as registry.fedoraproject.org/fedora-minimal:45, found "fedora"',
    ],
    ['url: ftp://x', '7:6: url: expected an address that begins with https:// or http://, found "ftp://x"'],
    ['config: etc/dhcp', `7:9: config: ${path}, found "etc/dhcp"`],
    ['config: /etc/../usr', `7:9: config: ${path}, found "/etc/../usr"`],
    ['config: /etc//dhcp', `7:9: config: ${path}, found "/etc//dhcp"`],
    ['config: /etc/dhcp/', `7:9: config: ${path}, found "/etc/dhcp/"`],
    ['config: /', `7:9: config: ${path}, found "/"`],
    ['config: "/a\\nb"', `7:9: config: ${path}, found "/a\\nb"`],
    ['ports: [0/udp]', `7:9: ports[0]: ${port}, found "0/udp"`],
    ['ports: [65536/tcp]', `7:9: ports[0]: ${port}, found "65536/tcp"`],
    ['ports: [67]', `7:9: ports[0]: ${port}, found 67`],
    ['ports: [67/sctp]', `7:9: ports[0]: ${port}, found "67/sctp"`],
    ['ports: 67/udp', '7:8: ports: expected a list of ports, each once, such as [67/udp], found "67/udp"'],
    [
      'capabilities: [CAP_NET_RAW]',
      `7:16: capabilities[0]: ${capability}, found "CAP_NET_RAW"; did you mean NET_RAW?`,
    ],
    [
      'capabilities: [net_raw]',
      `7:16: capabilities[0]: ${capability}, found "net_raw"; did you mean NET_RAW?`,
    ],
    [
      'capabilities: [NET_RWA]',
      `7:16: capabilities[0]: ${capability}, found "NET_RWA"; did you mean NET_RAW?`,
    ],
    ['capabilities: [EVERYTHING]', `7:16: capabilities[0]: ${capability}, found "EVERYTHING"`],
    ['run: [true]', `7:7: run[0]: ${argument}, found true (quotes make it text: "true")`],
    ['run: [1.50]', `7:7: run[0]: ${argument}, found 1.50 (quotes make it text: "1.50")`],
    ['run: [[-4]]', `7:7: run[0]: ${argument}, found a list`],
    ['run: ["a\\0b"]', `7:7: run[0]: ${argument}, found "a\\u0000b"`],
    [
      'environment: { LD_PRELOAD: x }',
      '7:16: environment.LD_PRELOAD: expected the name of a variable such as TZ, and none that begins with LD_, found "LD_PRELOAD"',
    ],
    [
      'environment: { "a/b~c": x }',
      '7:16: environment."a/b~c": expected the name of a variable such as TZ, and none that begins with LD_, found "a/b~c"',
    ],
    ['environment: { A: [] }', `7:19: environment.A: ${argument}, found an empty list`],
    [
      'stop: TERM',
      '7:7: stop: expected the name of a signal that can end a service such as SIGTERM, found "TERM"; did you mean SIGTERM?',
    ],
    ['inventory: yes', '7:12: inventory: expected true or false, found "yes"'],
    [
      'dlopen: [{ by: liba.so }]',
      '7:10: dlopen[0].loads: expected a list of sonames, each once, such as [libbar.so.2], found nothing',
    ],
    [
      'packages: {}',
      '3:11: packages: expected a mapping of at least one distribution family such as debian: {package: isc-dhcp-server}, found an empty mapping',
    ],
    [
      'packages: { arch: { package: dhcp-server } }',
      '3:13: packages.arch: expected one of fedora, debian, found "arch"',
    ],
    [
      'packages: { fedora: { package: dhcp-server } }',
      '3:21: packages.fedora.keys: expected a list of at least one key fingerprint, each once, such as [4F50A6114CD5C6976A7F1179655A4B02F577861E], found nothing',
    ],
    [
      'packages: { fedora: { package: dhcp-server, keys: [655A4B02F577861E] } }',
      '3:52: packages.fedora.keys[0]: expected the fingerprint of a key: 40 or 64 upper-case hexadecimal digits, without spaces, found "655A4B02F577861E"',
    ],
    [
      'packages: { debian: { package: Bad_Name } }',
      '3:32: packages.debian.package: expected the name of a Debian package such as isc-dhcp-server, found "Bad_Name"',
    ],
    [
      'state: { volume: a/b }',
      '7:18: state.volume: expected the name of a volume such as leases: letters, digits, _, . and -, the first a letter or digit, found "a/b"',
    ],
    ['state: { volume: a, files: [a/b] }', `7:29: state.files[0]: ${fileName}, found "a/b"`],
  ];

  it.each(cases)('%s', async (line, problem) => {
    const field = `${line.split(':')[0] ?? ''}:`;
    const flat = least
      .replace('packages:\n  debian', 'packages: { debian')
      .replace('server }', 'server } }\n#');
    const replaced = flat.includes(`\n${field}`) || flat.startsWith(field);
    const text = replaced ? flat.replace(new RegExp(`^${field}.*$`, 'm'), () => line) : `${flat}${line}\n`;
    expect(await problems(text)).toEqual([problem]);
  });

  it('reports all problems in the order of the file, the first in the message', async () => {
    const text = 'name: A\nuser: { id: 0 }\nports: [1/udp, 1/udp, x]\n';
    const error = await failure(load(text));
    expect(
      error.details.map((line) =>
        line
          .slice(directory.length + 12)
          .split(': ', 2)
          .join(': '),
      ),
    ).toEqual([
      '1:1: title',
      '1:1: packages',
      '1:1: roots',
      '1:7: name',
      '2:7: user.name',
      '2:13: user.id',
      '3:16: ports[1]',
      '3:23: ports[2]',
    ]);
    expect(error.message).toBe(
      `cannot use definition ${directory}/image.yaml: 1:1: title: expected one line of 1 to 500 printable characters, found nothing (and 7 more)`,
    );
  });

  it('says where an alias stands, not its anchor', async () => {
    expect(await problems(`${least}command: &c [true]\nrun: *c\n`)).toHaveLength(2);
    expect((await problems(`${least}config: &c x\nurl: *c\n`)).map((line) => line.split(' ')[0])).toEqual([
      '7:12:',
      '8:6:',
    ]);
  });

  it.each(['', '# nothing\n', '---\n', 'null', '[]', 'text'])('is a mapping, not %j', async (text) => {
    expect((await problems(text))[0]).toMatch(/^1:\d: definition: expected an image definition: .*, found /);
  });
});

describe('the fields together', () => {
  const withState = (config: string, state: string): string =>
    `${least.replace('isc-dhcp-server }', `isc-dhcp-server, state: ${state} }`)}config: ${config}\nstate: { volume: leases }\n`;

  it('asks for the directory of a declared state', async () => {
    expect(await problems(`${least}state: { volume: leases }\n`)).toEqual([
      '4:11: packages.debian.state: expected the directory of the state because `state` is declared, found nothing',
    ]);
    expect(await problems(withState('/etc/dhcp', '/var/lib/dhcp').replace(/^state.*$/m, ''))).toEqual([
      '4:46: packages.debian.state: expected no directory because no `state` is declared, found "/var/lib/dhcp"',
    ]);
  });

  it.each([
    ['/srv/a', '/srv/a'],
    ['/srv/a', '/srv/a/b'],
    ['/srv/a/b', '/srv/a'],
  ])('keeps the directories %s and %s apart', async (config, state) => {
    expect(await problems(withState(config, state))).toEqual([
      `4:46: packages.debian.state: expected a directory apart from the config directory ${config}, found "${state}"`,
    ]);
  });

  it.each([
    '/etc',
    '/usr',
    '/usr/share/dhcp',
    '/var/lib',
    '/lib64/x',
    '/proc/self',
    '/dev',
    '/var/lib/dpkg/status.d',
  ])('leaves %s to the system', async (path) => {
    expect((await problems(withState('/etc/dhcp', path)))[0]).toMatch(
      /^4:46: packages.debian.state: .* found the system's /,
    );
    expect((await problems(withState(path, '/srv/state')))[0]).toMatch(
      /^7:9: config: .* found the system's /,
    );
  });

  it('lets names that only begin alike stand side by side', async () => {
    expect((await load(withState('/srv/dhcp', '/srv/dhcp2'))).config).toBe('/srv/dhcp');
    expect((await load(withState('/libation', '/usrlocal'))).config).toBe('/libation');
  });

  it('takes one word on each object that calls dlopen', async () => {
    expect(await problems(`${least}dlopen: [{ by: a, loads: [] }, { by: a, loads: [b] }]\n`)).toEqual([
      '7:38: dlopen[1].by: expected each object once, found "a" again',
    ]);
  });
});

describe('YAML', () => {
  it.each([
    ['two documents', `${least}---\n${least}`, '7:1: syntax: expected one document, found several'],
    ['a field twice', `${least}name: other\n`, '7:1: name: expected this field once, found it again'],
    ['a tag', `${least}run: !argv [a]\n`, '7:12: run: expected a value without a tag, found the tag !argv'],
    [
      'a binary',
      `${least}run: !!binary aGk=\n`,
      '7:15: run: expected a value without a tag, found the tag tag:yaml.org,2002:binary',
    ],
    ['a number as a key', `${least}7: x\n`, '7:1: definition: expected text as a key, found 7'],
    [
      'a list as a key',
      `${least}? [a]\n: x\n`,
      '7:3: definition: expected text as a key, found a list or mapping',
    ],
    ['a merge key', `${least}<<: { run: [] }\n`, /^7:1: <<|^7:1: "<<": expected one of name/],
    [
      'an unknown anchor',
      `${least}run: *nowhere\n`,
      '7:6: run: expected an anchor before the alias, found none named nowhere',
    ],
    ['another version', `%YAML 1.1\n---\n${least}`, '1:1: syntax: expected YAML 1.2, found YAML 1.1'],
    ['a cycle', `${least}run: &a [*a]\n`, /expected at most 16 levels of nesting/],
    ['an unclosed list', `${least}run: [a\n`, /^8:1: syntax: Flow sequence/],
  ])('refuses %s', async (_what, text, problem) => {
    const found = await problems(text);
    expect(found[0]).toEqual(typeof problem === 'string' ? problem : expect.stringMatching(problem));
  });

  it('reports every syntax error', async () => {
    const found = await problems('a: b: c\nd: e: f\n');
    expect(found.map((line) => line.split(' ', 2).join(' '))).toEqual(['1:4: syntax:', '2:4: syntax:']);
  });

  it('bounds the expansion of aliases', async () => {
    const levels = Array.from(
      { length: 9 },
      (_, n) => `a${n + 1}: &a${n + 1} [${Array(9).fill(`*a${n}`).join(', ')}]`,
    );
    const start = performance.now();
    expect(await problems(`a0: &a0 [x]\n${levels.join('\n')}\n`)).toContainEqual(
      expect.stringContaining('expected at most 5000 values, aliases counted'),
    );
    expect(performance.now() - start).toBeLessThan(5000);
  });

  it.each([
    ['open lists', '['.repeat(60_000)],
    ['nested lists', '['.repeat(3000) + ']'.repeat(3000)],
    ['nested dashes', '- '.repeat(30_000)],
    ['open mappings', '{a: '.repeat(15_000)],
    ['questions', '? '.repeat(30_000)],
    ['aliases', `a: &a x\nb: [${'*a,'.repeat(20_000)}]`],
    ['anchors', '&a '.repeat(20_000)],
    ['keys', Array.from({ length: 9000 }, (_, n) => `k${n}:`).join('\n')],
    ['a long key', `${'k'.repeat(60_000)}: 1`],
    ['many wrong values', `run: [${'true,'.repeat(4000)}]`],
  ])('survives %s', async (_what, text) => {
    const start = performance.now();
    const found = await problems(text);
    expect(found.length).toBeGreaterThan(0);
    expect(found.length).toBeLessThanOrEqual(100);
    expect(performance.now() - start).toBeLessThan(10_000);
  });

  it('never fails in another way than with a ToolError', async () => {
    const piece = fc.oneof(
      fc.constantFrom(...'[]{}:,-?&*!|>%@#\'"\n \t\r\0~'.split('')),
      fc.constantFrom(
        'name',
        'user',
        'packages: {debian: ',
        '&a ',
        '*a',
        '!!str ',
        '---\n',
        '...\n',
        '__proto__: ',
        'run: ',
        '\n  ',
      ),
      fc.string({ unit: 'binary', maxLength: 4 }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(piece, { maxLength: 40 }), fc.boolean(), async (pieces, follows) => {
        await load(`${follows ? least : ''}${pieces.join('')}`).catch((error: unknown) => {
          if (!(error instanceof ToolError)) throw error;
          for (const line of error.details) expect(line).not.toMatch(/[\p{Cc}\u2028\u2029]/u);
        });
      }),
      { numRuns: 500 },
    );
  });
});

describe('the file', () => {
  it('must be there, a regular file, small, and UTF-8', async () => {
    const missing = join(directory, 'missing.yaml');
    expect((await failure(loadDefinition(missing))).message).toBe(
      `cannot read definition ${missing}: no such file or directory`,
    );
    expect((await failure(loadDefinition(directory))).message).toMatch(/: it is a directory$/);
    expect((await failure(loadDefinition('/dev/zero'))).message).toMatch(/: it is no regular file$/);
    expect((await failure(load(`${least}#${' '.repeat(65_536)}`))).message).toMatch(
      /: it is larger than 64 KiB$/,
    );
    expect((await failure(load(new Uint8Array([0x61, 0xff])))).message).toMatch(/: it is not UTF-8 text$/);
  });

  it.skipIf(!requireTools('mkfifo'))('is not waited for', async () => {
    const pipe = join(directory, 'pipe.yaml');
    execFileSync('mkfifo', [pipe]);
    expect((await failure(loadDefinition(pipe))).message).toMatch(/: it is no regular file$/);
  });
});

describe('schema/image.schema.json', () => {
  it('is a strict JSON Schema whose defaults and examples fit', () => {
    const ajv = new Ajv({ strict: true, allowUnionTypes: true, allErrors: true });
    ajv.addKeyword({ keyword: 'errorMessage', schemaType: 'string' });
    expect(ajv.validateSchema(schema, true)).toBe(true);
    ajv.addSchema(schema, 'image');
    let checked = 0;
    const visit = (field: Field, pointer: string): void => {
      expect(field.description, pointer).toMatch(/\S\.$/);
      for (const value of [
        ...(field.examples ?? []),
        ...(field.default === undefined ? [] : [field.default]),
      ]) {
        checked += 1;
        expect(ajv.validate(`image#${pointer}`, value), `${pointer}: ${JSON.stringify(value)}`).toBe(true);
      }
      for (const [name, below] of Object.entries(field.properties ?? {}))
        visit(below, `${pointer}/properties/${name}`);
      for (const [name, below] of Object.entries(field.items?.properties ?? {})) {
        visit(below, `${pointer}/items/properties/${name}`);
      }
    };
    visit(schema, '');
    expect(checked).toBeGreaterThan(30);
  });

  it('knows the families of the program', () => {
    expect(Object.keys(schema.properties['packages']?.properties ?? {})).toEqual(families);
  });

  it('knows signals that the system knows', () => {
    const signals = schema.properties['stop']?.enum ?? [];
    expect(signals).toContain('SIGTERM');
    expect(signals.filter((name) => !(name in constants.signals))).toEqual([]);
  });

  const header = '/usr/include/linux/capability.h';
  it.skipIf(!requireThat(canRead(header), `${header} (linux-libc-dev)`))(
    'knows the capabilities of the kernel',
    async () => {
      const text = await readFile(header, 'utf8');
      const names = [...text.matchAll(/^#define CAP_([A-Z_]+)\s+\d+$/gm)].map((match) => match[1]);
      expect(schema.properties['capabilities']?.items?.enum).toEqual(names.sort());
    },
  );
});

function canRead(path: string): boolean {
  try {
    return execFileSync('cat', [path]).length > 0;
  } catch {
    return false;
  }
}
