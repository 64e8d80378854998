import { createHash } from 'node:crypto';
import { open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { missing, type Measured, type Setting } from './part.js';
import { measure, type Command } from './process.js';
import { largest, ratio, type SeriesSummary, type Target } from './report.js';
import { fixed, interleave } from './rounds.js';

/** Fedora's Everything repository of one architecture has about as much. */
const packages = 60_000;
/** The most that making an index may take: times of decompressing alone, and bytes. */
const limits = { ratio: 3, memory: 200e6 } as const;

/** Rounds: one takes some seconds, and the values differ little. */
const most = 3;

/** How repositories pack their lists today, and how they did. */
const packings = [
  { format: 'zst', program: 'zstd', parameters: ['-10', '--quiet', '--keep'] },
  { format: 'gz', program: 'gzip', parameters: ['-6', '--keep'] },
] as const;

/**
 * Measures what the list of packages of a large RPM repository costs: unpacked and nothing else, and made into an index,
 * each in a process of its own.
 */
export async function measureRpmMd({ directory, rounds, time }: Setting): Promise<Measured> {
  const list = join(directory, 'primary.xml');
  const bytes = await writePrimary(list);
  const size = `${(bytes / 1e6).toFixed(0)} MB`;
  const series: SeriesSummary[] = [];
  const targets: Target[] = [];
  const notes: string[] = [];
  for (const { format, program, parameters } of packings) {
    const without = await missing(`list of packages with ${format}`, program);
    notes.push(...without);
    if (without.length > 0) continue;
    await measure({ argv: [program, ...parameters, list], cwd: directory }, undefined);
    const packed = `${list}.${format}`;
    const rows = await interleave(rounds, time, [
      {
        name: `${size} of packages, ${format}: unpacked`,
        rounds: most,
        prepare: () => fixed(unpackCommand(packed, format, directory)),
      },
      {
        name: `${size} of packages, ${format}: indexed`,
        rounds: most,
        prepare: () => fixed(indexCommand(packed, format, directory)),
      },
    ]);
    series.push(...rows);
    const [unpacked, indexed] = rows;
    targets.push(
      {
        about: `packages, ${format}: indexed / unpacked`,
        value: ratio(indexed, unpacked),
        limit: limits.ratio,
        unit: 'x',
      },
      {
        about: `packages, ${format}: peak memory`,
        value: largest([indexed]),
        limit: limits.memory,
        unit: 'MB',
      },
    );
    await rm(packed);
  }
  await rm(list);
  return { series, targets, more: undefined, notes };
}

const moduleUrl = (path: string): string => new URL(`../dist/${path}`, import.meta.url).href;

function unpackCommand(packed: string, format: string, cwd: string): Command {
  return scriptCommand(
    `import { decompressFile } from ${JSON.stringify(moduleUrl('package/decompress.js'))};
    const [path, format] = process.argv.slice(1);
    for await (const chunk of decompressFile(path, format, 2 ** 31));`,
    [packed, format],
    cwd,
  );
}

function indexCommand(packed: string, format: string, cwd: string): Command {
  return scriptCommand(
    `import { writeFileSync } from 'node:fs';
    import { decompressFile } from ${JSON.stringify(moduleUrl('package/decompress.js'))};
    import { indexPrimary } from ${JSON.stringify(moduleUrl('repository/fedora/primary.js'))};
    const [path, format, index] = process.argv.slice(1);
    writeFileSync(index, '');
    const architectures = new Set(['x86_64', 'noarch']);
    await indexPrimary(decompressFile(path, format, 2 ** 31), { path: index, where: path, architectures });`,
    [packed, format, join(cwd, 'index')],
    cwd,
  );
}

function scriptCommand(script: string, parameters: readonly string[], cwd: string): Command {
  return { argv: [process.execPath, '--input-type=module', '--eval', script, ...parameters], cwd };
}

/** Writes a primary.xml of the proportions of Fedora's. @returns its size in bytes */
async function writePrimary(path: string): Promise<number> {
  const file = await open(path, 'w');
  try {
    let bytes = 0;
    const write = async (text: string): Promise<void> => {
      bytes += (await file.write(text)).bytesWritten;
    };
    await write(
      `<?xml version="1.0" encoding="UTF-8"?>\n<metadata xmlns="http://linux.duke.edu/metadata/common" xmlns:rpm="http://linux.duke.edu/metadata/rpm" packages="${packages}">\n`,
    );
    const random = randomNumbers();
    let batch = '';
    for (let number = 0; number < packages; number += 1) {
      batch += packageXml(number, random);
      if (number % 100 !== 99) continue;
      await write(batch);
      batch = '';
    }
    await write('</metadata>\n');
    return bytes;
  } finally {
    await file.close();
  }
}

type Random = (below: number) => number;

/** The same numbers each time (xorshift, G. Marsaglia 2003). */
function randomNumbers(): Random {
  let state = 0x9e3779b9;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

const syllables = [
  'lib',
  'net',
  'core',
  'gtk',
  'perl',
  'rust',
  'dev',
  'data',
  'utils',
  'py',
  'tex',
  'font',
  'x',
  'kde',
];
const sentence =
  'This package contains the files that programs of this kind need when they are run, and no others. ';

function nameOf(number: number): string {
  const first = syllables[number % syllables.length] ?? '';
  const second = syllables[Math.floor(number / 14) % syllables.length] ?? '';
  return `${first}${second}-${number.toString(36)}`;
}

function packageXml(number: number, random: Random): string {
  const name = nameOf(number);
  // A fifth of the packages in a repository for x86_64 is for i686.
  const arch = ['x86_64', 'x86_64', 'noarch', 'noarch', 'i686'][random(5)] ?? '';
  const version = `${random(20)}.${random(50)}.${random(30)}`;
  const release = `${random(30)}.fc45`;
  const own = `flags="EQ" epoch="0" ver="${version}" rel="${release}"`;
  const checksum = createHash('sha256').update(name).digest('hex');
  const entries = (count: number, make: () => string): string =>
    Array.from({ length: count }, () => `      <rpm:entry ${make()}/>\n`).join('');
  const soname = (): string => {
    const library = nameOf(random(packages)).replace('-', '_');
    return `name="lib${library}.so.${random(9)}${random(3) === 0 ? `(${library.toUpperCase()}_${random(9)}.0)` : '()'}(64bit)"`;
  };
  return `<package type="rpm">
  <name>${name}</name>
  <arch>${arch}</arch>
  <version epoch="0" ver="${version}" rel="${release}"/>
  <checksum type="sha256" pkgid="YES">${checksum}</checksum>
  <summary>Sample package number ${number} &amp; its data</summary>
  <description>${sentence.repeat(2 + random(6))}</description>
  <packager>Fedora Project</packager>
  <url>https://example.org/${name}</url>
  <time file="${1_780_000_000 + random(9_000_000)}" build="${1_770_000_000 + random(9_000_000)}"/>
  <size package="${random(9_000_000)}" installed="${random(90_000_000)}" archive="${random(90_000_000)}"/>
  <location href="Packages/${name.charAt(0)}/${name}-${version}-${release}.${arch}.rpm"/>
  <format>
    <rpm:license>GPL-2.0-or-later AND MIT</rpm:license>
    <rpm:vendor>Fedora Project</rpm:vendor>
    <rpm:group>Unspecified</rpm:group>
    <rpm:buildhost>buildvm-x86-${random(40)}.example.org</rpm:buildhost>
    <rpm:sourcerpm>${name}-${version}-${release}.src.rpm</rpm:sourcerpm>
    <rpm:header-range start="4504" end="${random(90_000)}"/>
    <rpm:provides>
      <rpm:entry name="${name}" ${own}/>
      <rpm:entry name="${name}(x86-64)" ${own}/>
${entries(random(10), soname)}    </rpm:provides>
    <rpm:requires>
      <rpm:entry name="/bin/sh" pre="1"/>
      <rpm:entry name="${nameOf(random(packages))}" flags="GE" epoch="0" ver="${version}"/>
      <rpm:entry name="libc.so.6(GLIBC_2.34)(64bit)"/>
      <rpm:entry name="rtld(GNU_HASH)"/>
${entries(4 + random(24), soname)}    </rpm:requires>
    <file>/usr/bin/${name}</file>
    <file>/etc/${name}.conf</file>
  </format>
</package>
`;
}
