import { join, resolve } from 'node:path';

import type { Context } from './context.js';
import { reportImage, type ImageReport } from '../compare/image-report.js';
import { comparisonTable, sharedLayers, type ComparedImage } from '../compare/table.js';
import { measureOffers, type OfferMeasurement } from '../smoke/first-offer.js';
import { parseArchitecture, type Architecture } from '../support/architecture.js';
import { run } from '../support/exec.js';

export interface CompareOptions {
  /** One name. */
  readonly arch?: string;
  /** False with --no-offer. */
  readonly offer: boolean;
  readonly json?: boolean;
}

/** Odd, so that the median is one of the times. */
const rounds = 5;

/** `compare A B`: what two images are and hold, side by side, and how soon their servers answer. */
export async function compare(
  a: string,
  b: string,
  options: CompareOptions,
  context: Context,
): Promise<void> {
  const host = parseArchitecture(context.hostArchitecture);
  const architecture = options.arch === undefined ? host : parseArchitecture(options.arch);
  const read = (name: string): Promise<ImageReport> => {
    context.log.info(`reading ${name}`);
    return reportImage(resolve(context.cwd, name), name, architecture, context.signal);
  };
  const reports = [await read(a), await read(b)] as const;
  const measured = options.offer ? await measure(reports, host, context) : undefined;
  const compared = reports.map((report, index): ComparedImage => ({
    report,
    offer: measured?.times[index],
  }));
  for (const note of measured?.notes ?? []) context.log.debug(note);
  const [first, second] = compared;
  if (first === undefined || second === undefined) return;
  context.print(
    options.json === true
      ? `${JSON.stringify(documentOf(first, second, measured), undefined, 2)}\n`
      : comparisonTable(first, second),
  );
}

function measure(
  reports: readonly ImageReport[],
  host: Architecture,
  { log, environment, signal, packageDirectory, cwd }: Context,
): Promise<OfferMeasurement> {
  const images = reports.map(({ name, transport, image, hasDirectory }) => {
    const { configDigest, architecture, entrypoint, volumes, capabilities, reference } = image;
    const place = `${transport}:${resolve(cwd, name)}`;
    const source = reference === undefined ? place : `${place}:${reference}`;
    return { name, source, configDigest, architecture, entrypoint, volumes, capabilities, hasDirectory };
  });
  return measureOffers(images, rounds, {
    exec: run,
    environment,
    signal,
    architecture: host,
    discover: join(packageDirectory, 'dist/smoke/discover.js'),
    log: (message) => {
      log.info(message);
    },
  });
}

/** Every key is always there; `null` stands for nothing. */
function documentOf(a: ComparedImage, b: ComparedImage, measured: OfferMeasurement | undefined): unknown {
  return {
    images: [a, b].map(imageDocument),
    sharedLayers: sharedLayers(a.report, b.report),
    measurement: measured === undefined ? null : { rounds, notes: measured.notes },
  };
}

function imageDocument({ report, offer }: ComparedImage): unknown {
  const { image, layers, packages } = report;
  return {
    name: report.name,
    digest: image.digest,
    configDigest: image.configDigest,
    reference: image.reference ?? null,
    architecture: image.architecture,
    user: image.user,
    entrypoint: image.entrypoint,
    command: image.command,
    volumes: image.volumes,
    capabilities: image.capabilities ?? null,
    compressedBytes: layers.reduce((sum, { compressedBytes }) => sum + compressedBytes, 0),
    contentBytes: report.contentBytes,
    layers,
    files: report.files,
    directories: report.directories,
    symlinks: report.symlinks,
    specials: report.specials,
    packages:
      packages.count === undefined
        ? { count: null, from: [], reason: packages.reason }
        : { count: packages.count, from: packages.from, reason: null },
    programs: report.programs,
    libraries: report.libraries,
    shells: report.shells,
    interpreters: report.interpreters,
    setid: report.setid,
    capable: report.capable,
    worldWritable: report.worldWritable,
    offer:
      offer === undefined
        ? null
        : offer.milliseconds === undefined
          ? { median: null, milliseconds: [], reason: offer.reason }
          : { median: offer.median, milliseconds: offer.milliseconds, reason: null },
  };
}
