import type { Context } from './context.js';
import { requestOf, type ImageOptions } from './request.js';
import { withPrepared } from './services.js';
import type { PreparedImage } from '../pipeline.js';
import type { RootfsEntry } from '../rootfs/plan.js';
import { describeReason, packageOf } from '../rootfs/reason.js';
import { formatBytes, printable } from '../support/format.js';

/** `plan`: prints what the image would hold, and writes nothing but the cache. */
export async function plan(definition: string, options: ImageOptions, context: Context): Promise<void> {
  const request = requestOf(definition, options, context);
  const text = await withPrepared(request, context, ({ images }) =>
    options.json === true
      ? `${JSON.stringify({ images: images.map(documentOf) }, undefined, 2)}\n`
      : images.map(textOf).join('\n'),
  );
  context.print(text);
}

function documentOf({ architecture, target, plan: made, dlopenNotes }: PreparedImage): unknown {
  return {
    architecture,
    family: target.family,
    release: target.release,
    packages: target.packages,
    epoch: made.epoch,
    dlopenNotes,
    entries: made.entries.map((entry) => ({
      path: `/${entry.path}`,
      kind: entry.kind,
      mode: modeOf(entry),
      uid: entry.uid,
      gid: entry.gid,
      size: sizeOf(entry),
      ...(entry.kind === 'symlink' ? { target: entry.target } : {}),
      package: packageOf(entry) ?? null,
      reason: { ...entry.reason, text: describeReason(entry.reason) },
    })),
  };
}

function textOf({ architecture, target, plan: made, dlopenNotes }: PreparedImage): string {
  const rows = made.entries.map((entry) => [
    modeOf(entry),
    `${entry.uid}:${entry.gid}`,
    entry.kind === 'file' || entry.kind === 'text' ? String(sizeOf(entry)) : '',
    `/${entry.path}${entry.kind === 'directory' ? '/' : ''}${entry.kind === 'symlink' ? ` -> ${entry.target}` : ''}`,
    packageText(entry),
    describeReason(entry.reason),
  ]);
  const header = ['MODE', 'OWNER', 'BYTES', 'PATH', 'PACKAGE', 'REASON'];
  const widths = header.map((title, column) =>
    Math.max(title.length, ...rows.map((row) => row[column]?.length ?? 0)),
  );
  const lines = [header, ...rows].map((row) =>
    row
      .map((cell, column) =>
        column === 2 ? cell.padStart(widths[column] ?? 0) : cell.padEnd(widths[column] ?? 0),
      )
      .join('  ')
      .trimEnd(),
  );
  const files = made.entries.filter((entry) => entry.kind === 'file' || entry.kind === 'text');
  const bytes = files.reduce((sum, entry) => sum + sizeOf(entry), 0);
  return (
    `${architecture}, ${target.family} ${target.release}: ${formatBytes(bytes)} in ${files.length} files from ` +
    `${target.packages.length} packages\n${lines.join('\n')}\n${notesOf(dlopenNotes)}`
  );
}

function sizeOf(entry: RootfsEntry): number {
  if (entry.kind === 'file') return entry.size;
  return entry.kind === 'text' ? entry.content.length : 0;
}

function modeOf(entry: RootfsEntry): string {
  return entry.mode.toString(8).padStart(4, '0');
}

/** What objects may load at run time by their own word; the definition's `dlopen` brings it into the image. */
function notesOf(notes: PreparedImage['dlopenNotes']): string {
  if (notes.length === 0) return '';
  const lines = notes.map(({ path, note }) =>
    printable(
      `  ${path}: ${note.sonames.join(' or ')} (${note.priority}${note.feature === undefined ? '' : `, ${note.feature}`})`,
    ),
  );
  return `Said in .note.dlopen to be loaded at run time when it is there:\n${lines.join('\n')}\n`;
}

function packageText(entry: RootfsEntry): string {
  const found = packageOf(entry);
  return found === undefined ? '-' : `${found.name} ${found.version}`;
}
