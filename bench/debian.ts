import { mkdir, mkdtemp } from 'node:fs/promises';
import { join } from 'node:path';
import { contentOfTar, type ArchiveContent } from './archive.js';
import { floorCommand } from './floor.js';
import { missing, type Measured, type Setting } from './part.js';
import { findPeer, peerArchive } from './peer.js';
import { measure, type Command } from './process.js';
import {
  buildCommand,
  closureOf,
  definition,
  imageSize,
  otherLayerCommand,
  type Closure,
  type ImageSize,
} from './program.js';
import { largest, ratio, table, type Target } from './report.js';
import { fixed, interleave, type Prepared } from './rounds.js';

/** See docs/benchmarks.md. Seconds, ratios, and bytes. */
const limits = { warm: 1, floor: 1.5, peer: 1, both: 1.4, content: 1.01, memory: 300e6 } as const;

const source = ['--distro', 'debian'] as const;

/** Builds from the Debian archive that the host's apt configuration names. */
export async function measureDebian({ directory, rounds, time, own, other }: Setting): Promise<Measured> {
  const notes: string[] = [];
  const both = [own, other];
  const warm = join(directory, 'warm');
  await mkdir(warm);
  await measure(buildCommand(warm, both, source), undefined);
  const image = await imageSize((await measure(buildCommand(warm, [own], source), undefined)).stdout, warm);
  const closure = await closureOf(warm, own, source);

  const withoutFloor = await missing('floor', 'dpkg-deb');
  const withoutPeer = await missing('peer', 'mmdebstrap');
  notes.push(...withoutFloor, ...withoutPeer);
  const peer = withoutPeer.length > 0 ? undefined : await findPeer(directory);
  if (withoutPeer.length === 0 && peer === undefined)
    notes.push('peer not measured: apt has no source of this release');

  let epoch = 1_700_000_000;
  const warmRuns = await interleave(rounds, time, [
    { name: 'warm, one architecture', prepare: () => fixed(buildCommand(warm, [own], source)) },
    { name: 'warm, both', prepare: () => fixed(buildCommand(warm, both, source)) },
    {
      name: 'warm, one, its layer new',
      prepare: () => fixed(otherLayerCommand(warm, [own], source, (epoch += 1))),
    },
    ...(withoutFloor.length > 0
      ? []
      : [{ name: 'floor: dpkg-deb, tar, gzip -6', prepare: () => floorCommand(warm, closure) }]),
  ]);
  const fresh = async (make: (cwd: string) => Command): Promise<Prepared> => {
    const cwd = await mkdtemp(join(directory, 'cold-'));
    return { ...make(cwd), directory: cwd };
  };
  let result: ArchiveContent | undefined;
  const coldRuns = await interleave(rounds, time, [
    { name: 'cold, one architecture', prepare: () => fresh((cwd) => buildCommand(cwd, [own], source)) },
    { name: 'cold, both', prepare: () => fresh((cwd) => buildCommand(cwd, both, source)) },
    ...(peer === undefined
      ? []
      : [
          {
            name: 'peer: mmdebstrap, cold',
            prepare: () => fresh(peer),
            after: async (cwd: string) => {
              result ??= await contentOfTar(join(cwd, peerArchive), cwd);
            },
          },
        ]),
  ]);

  const [warmOne, warmBoth, warmNew, floor] = warmRuns;
  const [coldOne, coldBoth, cold] = coldRuns;
  const targets: Target[] = [
    { about: 'warm, one architecture', value: warmOne?.median ?? null, limit: limits.warm, unit: 's' },
    { about: 'warm / floor', value: ratio(warmOne, floor), limit: limits.floor, unit: 'x' },
    { about: 'warm with a new layer / floor', value: ratio(warmNew, floor), limit: null, unit: 'x' },
    { about: 'warm: both / one', value: ratio(warmBoth, warmOne), limit: limits.both, unit: 'x' },
    { about: 'cold / mmdebstrap', value: ratio(coldOne, cold), limit: limits.peer, unit: 'x' },
    { about: 'cold: both / one', value: ratio(coldBoth, coldOne), limit: limits.both, unit: 'x' },
    {
      about: 'bytes of files in the layer / of the closure',
      value: image.fileBytes / closure.fileBytes,
      limit: limits.content,
      unit: 'x',
    },
    {
      about: 'peak memory of any build',
      value: largest([warmOne, warmBoth, warmNew, coldOne, coldBoth]),
      limit: limits.memory,
      unit: 'MB',
    },
  ];
  return {
    series: [...warmRuns, ...coldRuns],
    targets,
    more: {
      text: textOfSizes(image, closure, result),
      document: {
        image,
        closure: { packages: closure.packages.length, fileBytes: closure.fileBytes },
        peer: result ?? null,
      },
    },
    notes,
  };
}

function textOfSizes(image: ImageSize, closure: Closure, peer: ArchiveContent | undefined): string {
  const size = (bytes: number): string => bytes.toLocaleString('en-US');
  return table(
    ['BYTES', 'IMAGE', 'LAYER', 'ITS TAR', 'ITS FILES', 'FILES', 'ENTRIES'],
    [
      [
        definition,
        ...[image.image, image.layer, image.tar, image.fileBytes].map(size),
        String(image.files),
        String(image.entries),
      ],
      ['its closure in the packages', '', '', '', size(closure.fileBytes), '', ''],
      ...(peer === undefined
        ? []
        : [['mmdebstrap', '', '', '', size(peer.fileBytes), String(peer.files), String(peer.entries)]]),
    ],
  );
}
