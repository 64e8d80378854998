import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { describe, expect, it } from 'vitest';
import { fedoraLoader } from '../../../build/repository/fedora/layout.js';
import { mergeRepositories, type FoundPackage } from '../../../build/repository/fedora/packages.js';
import { chooseProvider, type Candidate } from '../../../build/repository/fedora/provider.js';
import { makeOpening, sourceOf } from './repository-opening.js';

const samples = process.env['REPODATA_SAMPLES'];
if (samples === undefined) process.stderr.write('skipped: CentOS Stream 9 needs REPODATA_SAMPLES\n');
const sample = resolve(samples ?? '', 'cs9-baseos');

const architecture = 'x86_64';
const root = 'dhcp-server';

interface Found extends Candidate {
  readonly found: FoundPackage;
}

function candidateOf(found: FoundPackage): Found {
  const { name, requires } = found.record;
  return { name, requires: requires.map((each) => each.name), found };
}

/** 64-bit sonames without a version, as rpm finds them in the objects of a package. */
function sonamesOf({ requires }: Candidate): readonly string[] {
  return requires.flatMap((name) => /^([^()]+\.so[^()]*)\(\)\(64bit\)$/.exec(name)?.[1] ?? []);
}

describe.skipIf(samples === undefined)('the metadata of CentOS Stream 9', () => {
  it('leads from dhcp-server over sonames to 24 packages', { timeout: 60_000 }, async (context) => {
    const opening = await makeOpening();
    context.onTestFinished(() => opening.close());
    const repository = await opening.open(sourceOf(pathToFileURL(`${sample}/`).href));
    const packages = mergeRepositories([repository], architecture);

    const walked = new Map<string, Found>();
    const missing: string[] = [];
    const first = packages.find(root);
    const queue = first === undefined ? [] : [candidateOf(first)];
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
      if (walked.has(next.name)) continue;
      walked.set(next.name, next);
      for (const soname of sonamesOf(next)) {
        const choice = await chooseProvider<Found>(
          {
            soname,
            neededBy: next.name,
            root,
            directories: fedoraLoader(architecture).builtIn.map((path) => path.slice(1)),
          },
          {
            architecture,
            prefer: [],
            index: {
              find: (name) => {
                const found = packages.find(name);
                return found && candidateOf(found);
              },
              providers: (capability) => packages.providers(capability).map(candidateOf),
              owners: async (paths) => (await packages.owners(paths)).map(candidateOf),
            },
            isTaken: ({ name }) => walked.has(name),
            open: ({ name }) => Promise.reject(new Error(`there is no package file of ${name}`)),
          },
        );
        if (choice === undefined) missing.push(soname);
        else queue.push(choice.candidate);
      }
    }

    const expected = readFileSync(join(sample, 'EXPECTED-dhcp-server-soname-closure.txt'), 'utf8')
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => line.split(' ').slice(0, 4).join(' '));
    const lines = [...walked.values()].map(({ found: { record } }) =>
      [record.name, `${record.version}-${record.release}`, record.architecture, record.size].join(' '),
    );
    expect(missing).toEqual([]);
    expect(lines.sort()).toEqual(expected.sort());
    expect(lines).toHaveLength(24);
  });
});
