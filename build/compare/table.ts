import type { OfferTimes } from '../smoke/first-offer.js';
import { formatBytes, printable } from '../support/format.js';
import type { ImageReport } from './image-report.js';

/** An image with what its server took to answer; undefined when that was not asked for. */
export interface ComparedImage {
  readonly report: ImageReport;
  readonly offer: OfferTimes | undefined;
}

/** Layers that both images have, by what they unpack to. */
export interface SharedLayers {
  readonly diffIds: readonly string[];
  /** Bytes of the blobs, as the second image has them. */
  readonly compressedBytes: number;
}

export function sharedLayers(a: ImageReport, b: ImageReport): SharedLayers {
  const inA = new Set(a.layers.map(({ diffId }) => diffId));
  const shared = new Map(
    b.layers
      .filter(({ diffId }) => inA.has(diffId))
      .map(({ diffId, compressedBytes }) => [diffId, compressedBytes]),
  );
  return {
    diffIds: [...shared.keys()],
    compressedBytes: [...shared.values()].reduce((sum, bytes) => sum + bytes, 0),
  };
}

type Row = readonly [label: string, a: string, b: string, difference: string];

/** Both images as an aligned table; the last column says what the second has more. */
export function comparisonTable(a: ComparedImage, b: ComparedImage): string {
  const both = [a.report, b.report] as const;
  const shared = sharedLayers(...both);
  const rows: Row[] = [
    ['', printable(a.report.name), printable(b.report.name), ''],
    texts('architecture', both, ({ image }) => image.architecture),
    ratio('compressed', both, ({ layers }) => sum(layers.map((layer) => layer.compressedBytes)), formatBytes),
    ratio('unpacked', both, (report) => report.contentBytes, formatBytes),
    counts('layers', both, ({ layers }) => layers.length),
    ['sizes of the layers', ...pair(both, layerSizes), ''],
    [
      'shared layers',
      ...pair(both, () => String(shared.diffIds.length)),
      formatBytes(shared.compressedBytes),
    ],
    counts('files', both, ({ files }) => files),
    counts('directories', both, ({ directories }) => directories),
    counts('symbolic links', both, ({ symlinks }) => symlinks),
    counts('devices and pipes', both, ({ specials }) => specials),
    counts('packages', both, ({ packages }) => packages.count),
    counts('programs', both, ({ programs }) => programs.length),
    counts('shared libraries', both, ({ libraries }) => libraries.length),
    counts('shells', both, ({ shells }) => shells.length),
    counts('interpreters', both, ({ interpreters }) => interpreters.length),
    counts('setuid and setgid files', both, ({ setid }) => setid.length),
    counts('files with capabilities', both, ({ capable }) => capable.length),
    counts('world-writable', both, ({ worldWritable }) => worldWritable.length),
    texts('user', both, ({ image }) => image.user || 'root'),
    texts('entrypoint', both, ({ image }) => image.entrypoint.join(' ') || 'none'),
    texts('declared capabilities', both, ({ image }) => image.capabilities?.join(' ') ?? 'none'),
  ];
  if (a.offer !== undefined && b.offer !== undefined) rows.push(offerRow(a.offer, b.offer));
  const remarks = [a, b].flatMap(({ report, offer }) => [
    ...(report.packages.count === undefined ? [`${report.name}: packages: ${report.packages.reason}`] : []),
    ...(offer !== undefined && offer.milliseconds === undefined
      ? [`${report.name}: time to first OFFER not measured: ${offer.reason}`]
      : []),
  ]);
  return `${[...aligned(rows), ...remarks.map(printable)].join('\n')}\n`;
}

function aligned(rows: readonly Row[]): readonly string[] {
  const widths = [0, 1, 2].map((column) => Math.max(...rows.map((row) => (row[column] ?? '').length)));
  return rows.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd(),
  );
}

type Both = readonly [ImageReport, ImageReport];

function pair(both: Both, of: (report: ImageReport) => string): [string, string] {
  return [of(both[0]), of(both[1])];
}

function texts(label: string, both: Both, of: (report: ImageReport) => string): Row {
  const [a, b] = pair(both, (report) => printable(of(report)));
  return [label, a, b, a === b ? '' : 'differs'];
}

function counts(label: string, both: Both, of: (report: ImageReport) => number | undefined): Row {
  const [a, b] = [of(both[0]), of(both[1])];
  const shown = (value: number | undefined): string => (value === undefined ? 'unknown' : String(value));
  const more = a === undefined || b === undefined ? 0 : b - a;
  return [label, shown(a), shown(b), more === 0 ? '' : more > 0 ? `+${more}` : String(more)];
}

function ratio(
  label: string,
  both: Both,
  of: (report: ImageReport) => number,
  shown: (value: number) => string,
): Row {
  const [a, b] = [of(both[0]), of(both[1])];
  return [label, shown(a), shown(b), a === b ? '' : times(a, b)];
}

/** How many times the first the second is. */
function times(a: number, b: number): string {
  if (a === 0) return '';
  const factor = b / a;
  return `x ${factor.toFixed(factor < 10 ? 2 : factor < 100 ? 1 : 0)}`;
}

function offerRow(a: OfferTimes, b: OfferTimes): Row {
  const shown = (offer: OfferTimes): string =>
    offer.milliseconds === undefined ? 'not measured' : `${offer.median} ms`;
  const compared =
    a.milliseconds === undefined || b.milliseconds === undefined ? '' : times(a.median, b.median);
  return ['time to first OFFER', shown(a), shown(b), compared];
}

/** The first few, because a cell is one line. */
function layerSizes({ layers }: ImageReport): string {
  const most = 4;
  const sizes = layers.slice(0, most).map(({ compressedBytes }) => formatBytes(compressedBytes));
  return layers.length > most ? `${sizes.join(', ')}, ...` : sizes.join(', ');
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
