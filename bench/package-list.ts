import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, open, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { measure } from './process.js';

/** Fedora's Everything repository of one architecture has about as much. */
const packages = 60_000;

/**
 * Makes a repository of Fedora's size that has nothing but its list, packed with zstd(1): none of its packages is needed
 * by anything.
 *
 * @param directory an existing one
 */
export async function writeRepository(directory: string): Promise<void> {
  const repodata = join(directory, 'repodata');
  await mkdir(repodata);
  const list = join(repodata, 'primary.xml');
  const bytes = await writePrimary(list);
  const packed = `${list}.zst`;
  await measure({ argv: ['zstd', '-10', '--quiet', '--keep', list], cwd: directory }, undefined);
  const checksum = async (name: string, path: string): Promise<string> =>
    `<${name} type="sha256">${await sha256(path)}</${name}>`;
  const lines = [
    '<?xml version="1.0" encoding="UTF-8"?>',
    '<repomd xmlns="http://linux.duke.edu/metadata/repo">',
    '<revision>1780000000</revision>',
    '<data type="primary">',
    await checksum('checksum', packed),
    await checksum('open-checksum', list),
    '<location href="repodata/primary.xml.zst"/>',
    '<timestamp>1780000000</timestamp>',
    `<size>${(await stat(packed)).size}</size>`,
    `<open-size>${bytes}</open-size>`,
    '</data>',
    '</repomd>',
    '',
  ];
  await writeFile(join(repodata, 'repomd.xml'), lines.join('\n'));
  await rm(list);
}

async function sha256(path: string): Promise<string> {
  const hash = createHash('sha256');
  const chunks: AsyncIterable<Buffer> = createReadStream(path);
  for await (const chunk of chunks) hash.update(chunk);
  return hash.digest('hex');
}

/** Writes a primary.xml of the proportions of Fedora's. @returns its size in bytes */
export async function writePrimary(path: string): Promise<number> {
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
