import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { reportImage, type ImageReport } from '../../build/compare/image-report.js';
import { comparisonTable } from '../../build/compare/table.js';
import type { OfferTimes } from '../../build/smoke/first-offer.js';
import { imageStore, layer, writeArchive } from './store-builder.js';

describe('the table of two images', () => {
  let work = '';
  let report: ImageReport;
  beforeAll(async () => {
    work = mkdtempSync(join(tmpdir(), 'table-'));
    const archive = writeArchive(join(work, 'it.tar'), imageStore({ layers: [layer('etc/passwd root')] }));
    report = await reportImage(archive, 'it.tar', 'x86_64', new AbortController().signal);
  });
  afterAll(() => {
    rmSync(work, { recursive: true });
  });

  const taking = (median: number): OfferTimes => ({ milliseconds: [median], median });
  const unmeasured: OfferTimes = { milliseconds: undefined, reason: 'no root' };

  function row(label: string, a: OfferTimes, b: OfferTimes): readonly string[] | undefined {
    return comparisonTable({ report, offer: a }, { report, offer: b })
      .split('\n')
      .map((line) => line.split(/ {2,}/))
      .find(([first]) => first === label)
      ?.slice(1);
  }

  it('always says how two times that were taken compare, equal ones too', () => {
    const offer = (a: OfferTimes, b: OfferTimes): readonly string[] | undefined =>
      row('time to first OFFER', a, b);
    expect(offer(taking(168.2), taking(168.2))).toEqual(['168.2 ms', '168.2 ms', 'x 1.00']);
    expect(offer(taking(200), taking(301))).toEqual(['200 ms', '301 ms', 'x 1.50']);
    expect(offer(taking(200), unmeasured)).toEqual(['200 ms', 'not measured']);
  });

  it('says nothing where two sizes are the same', () => {
    expect(row('unpacked', unmeasured, unmeasured)).toHaveLength(2);
  });
});
