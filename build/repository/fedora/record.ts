import { cannot } from '../../support/errors.js';
import type { Evr } from './evr.js';
import { safeLocation } from './location.js';

/** One package of a repository, reduced to what choosing and fetching need. */
export interface RpmRecord extends Evr {
  readonly name: string;
  /** rpm's name, such as `x86_64` or `noarch`. */
  readonly architecture: string;
  readonly checksum: Checksum;
  /** URL path below the repository's base, as the repository spells it; it does not leave it. */
  readonly path: string;
  /** Bytes of the package file. */
  readonly size: number;
  /** Seconds since the epoch. */
  readonly built: number;
  readonly requires: readonly RpmDependency[];
  readonly provides: readonly RpmDependency[];
  /** Absolute paths of those files that other packages may ask for by path; filelists.xml has all of them. */
  readonly files: readonly string[];
}

export interface RpmDependency {
  /** As written: a package, a soname such as `libc.so.6(GLIBC_2.34)(64bit)`, a path, or a rich dependency in brackets. */
  readonly name: string;
  /** Such as `>= 1:2.36-4`, or undefined. */
  readonly constraint: string | undefined;
}

/** Digests that are good enough to know a file by. */
export const checksumAlgorithms = ['sha256', 'sha512'] as const;
export type ChecksumAlgorithm = (typeof checksumAlgorithms)[number];

export interface Checksum {
  readonly algorithm: ChecksumAlgorithm;
  /** Lower-case hexadecimal. */
  readonly value: string;
}

/** @returns undefined for any other algorithm, and for a value that is none of it */
export function parseChecksum(
  algorithm: string | undefined,
  value: string | undefined,
): Checksum | undefined {
  const known = checksumAlgorithms.find((name) => name === algorithm?.toLowerCase());
  const digits = value?.trim().toLowerCase() ?? '';
  if (known === undefined || !/^[0-9a-f]+$/.test(digits)) return undefined;
  return digits.length === (known === 'sha256' ? 64 : 128) ? { algorithm: known, value: digits } : undefined;
}

/** The fields of a record before its lists, as primary.xml spells them; the empty string for what is missing. */
export interface RecordHead {
  readonly name: string;
  readonly epoch: string;
  readonly version: string;
  readonly release: string;
  readonly architecture: string;
  readonly algorithm: string;
  readonly checksum: string;
  readonly path: string;
  readonly size: string;
  readonly built: string;
}

/** What rpm and createrepo_c let these be made of, so far as nobody can do harm with them. */
const nameSyntax = /^[0-9A-Za-z_.+%{}][0-9A-Za-z_.+%{}~^-]{0,511}$/;
const versionSyntax = /^[0-9A-Za-z_.+%{}~^]{1,512}$/;

/**
 * Reads a record of an index strictly.
 *
 * @param where names the repository's file in errors
 * @throws ToolError
 */
export function readRecord(line: string, where: string): RpmRecord {
  let record: unknown;
  try {
    record = JSON.parse(line);
  } catch (error) {
    throw cannot('read', where, 'the index of its packages is damaged', {
      cause: error,
      hint: 'empty the cache with npx dhcpd-scratch cache clean',
    });
  }
  const text = (field: keyof RecordHead): string => textOf(record, field);
  const name = text('name');
  const fail = (reason: string, hint = broken): Error =>
    cannot('read', `${where} at ${name}`, reason, { hint });
  const number = (field: 'epoch' | 'size' | 'built'): number => {
    const digits = text(field);
    if (!/^[0-9]{1,15}$/.test(digits)) throw fail(`the ${field} ${JSON.stringify(digits)} is no number`);
    return Number(digits);
  };
  const version = text('version');
  const release = text('release');
  const architecture = text('architecture');
  if (!nameSyntax.test(name))
    throw cannot('read', where, `the name ${JSON.stringify(name)} is malformed`, { hint: broken });
  for (const part of [version, release, architecture]) {
    if (!versionSyntax.test(part)) throw fail(`${JSON.stringify(part)} is malformed`);
  }
  const checksum = parseChecksum(text('algorithm'), text('checksum'));
  if (checksum === undefined) {
    throw fail(`it has no SHA-256 or SHA-512 checksum, only ${JSON.stringify(text('algorithm'))}`, weak);
  }
  const path = safeLocation(text('path'));
  if (path === undefined) {
    throw fail(`the location ${JSON.stringify(text('path'))} leaves the repository`);
  }
  return {
    name,
    epoch: number('epoch'),
    version,
    release,
    architecture,
    checksum,
    path,
    size: number('size'),
    built: number('built'),
    requires: dependenciesOf(record, 'requires'),
    provides: dependenciesOf(record, 'provides'),
    files: listOf(record, 'files').flatMap((path) => (typeof path === 'string' ? [path] : [])),
  };
}

const weak = 'the repository is too old to be trusted; use another';
const broken = 'the repository is broken or hostile; use another';

function textOf(record: unknown, field: keyof RecordHead): string {
  const value = fieldOf(record, field);
  return typeof value === 'string' ? value : '';
}

function fieldOf(record: unknown, field: string): unknown {
  if (typeof record !== 'object' || record === null) return undefined;
  return Object.getOwnPropertyDescriptor(record, field)?.value;
}

function listOf(record: unknown, field: string): readonly unknown[] {
  const value = fieldOf(record, field);
  return Array.isArray(value) ? value : [];
}

/** `"name"` or `["name", "constraint"]` each. */
function dependenciesOf(record: unknown, field: 'requires' | 'provides'): readonly RpmDependency[] {
  return listOf(record, field).flatMap((item): RpmDependency[] => {
    if (typeof item === 'string') return [{ name: item, constraint: undefined }];
    const parts: readonly unknown[] = Array.isArray(item) ? item : [];
    const [name, constraint] = parts;
    return typeof name === 'string' && typeof constraint === 'string' ? [{ name, constraint }] : [];
  });
}
