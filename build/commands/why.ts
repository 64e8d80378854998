import type { Context } from './context.js';
import { requestOf, type ImageOptions } from './request.js';
import { withPrepared } from './services.js';
import type { PreparedImage } from '../pipeline.js';
import type { RootfsEntry } from '../rootfs/plan.js';
import { describeReason, packageOf, type PackageName } from '../rootfs/reason.js';
import { cannot, type ToolError } from '../support/errors.js';
import { nearest } from '../support/nearest.js';

interface Step {
  readonly path: string;
  /** Undefined for what no package ships. */
  readonly package: PackageName | undefined;
  readonly reason: string;
}

/** `why PATH`: prints the chain from the root program to one file of the image, with the packages on the way. */
export async function why(
  path: string,
  definition: string,
  options: ImageOptions,
  context: Context,
): Promise<void> {
  const request = requestOf(definition, options, context);
  const answers = await withPrepared(request, context, ({ images }) => {
    const found = images.map((image): Answer => ({
      architecture: image.architecture,
      steps: stepsTo(path, image),
    }));
    if (found.every(({ steps }) => steps === undefined)) throw unknownPath(path, images);
    return found;
  });
  context.print(
    options.json === true
      ? `${JSON.stringify({ path: absolute(path), answers: answers.map(documentOf) }, undefined, 2)}\n`
      : answers.map(textOf).join('\n'),
  );
}

interface Answer {
  readonly architecture: string;
  /** Undefined when this image does not hold the path. */
  readonly steps: readonly Step[] | undefined;
}

/** Every key is always there; `null` stands for nothing. */
function documentOf({ architecture, steps }: Answer): unknown {
  return {
    architecture,
    steps: steps?.map((step) => ({ ...step, package: step.package ?? null })) ?? null,
  };
}

function textOf({ architecture, steps }: Answer): string {
  if (steps === undefined) return `${architecture}\n  it is not in this image\n`;
  const lines = steps.map(({ path, package: from, reason }, depth) => {
    const shipped = from === undefined ? '' : `  (${from.name} ${from.version})`;
    return `${'  '.repeat(depth + 1)}${path}${shipped}: ${reason}`;
  });
  return `${architecture}\n${lines.join('\n')}\n`;
}

/** The chain outermost first: the root program, what it needs, ... , the file asked for. */
function stepsTo(path: string, image: PreparedImage): readonly Step[] | undefined {
  const byPath = entriesByPath(image);
  const wanted = absolute(path);
  const entry = byPath.get(wanted) ?? byPath.get(throughLinks(wanted, byPath));
  if (entry === undefined) return undefined;
  const steps = chainOf(entry, byPath, new Set());
  const last = `/${entry.path}`;
  return last === wanted
    ? steps
    : [...steps, { path: wanted, package: undefined, reason: `another name of ${last}` }];
}

function unknownPath(path: string, images: readonly PreparedImage[]): ToolError {
  const wanted = absolute(path);
  const close = nearest(
    wanted,
    images.flatMap((image) => [...entriesByPath(image).keys()]),
  );
  const names = images.map(({ architecture }) => architecture).join(', ');
  return cannot('explain', `${wanted} (${names})`, 'it is not in the image', {
    hint: close === undefined ? 'npx dhcpd-scratch plan lists what is' : `did you mean ${close}?`,
    exitCode: 2,
  });
}

function entriesByPath({ plan }: PreparedImage): ReadonlyMap<string, RootfsEntry> {
  return new Map(plan.entries.map((entry) => [`/${entry.path}`, entry]));
}

function absolute(path: string): string {
  return `/${path.replace(/^\/+|\/+$/g, '')}`;
}

function chainOf(
  entry: RootfsEntry,
  byPath: ReadonlyMap<string, RootfsEntry>,
  seen: Set<RootfsEntry>,
): readonly Step[] {
  seen.add(entry);
  const step: Step = {
    path: `/${entry.path}`,
    package: packageOf(entry),
    reason: describeReason(entry.reason),
  };
  const before = predecessorOf(entry);
  const real = before === undefined ? undefined : byPath.get(throughLinks(before, byPath));
  return real === undefined || seen.has(real) ? [step] : [...chainOf(real, byPath, seen), step];
}

/** The path whose need brought this entry in. */
function predecessorOf({ reason }: RootfsEntry): string | undefined {
  switch (reason.kind) {
    case 'needed':
      return reason.chain.at(-2);
    case 'interpreter':
      return reason.of;
    case 'dlopen':
      return reason.by;
    case 'path':
      return reason.to;
    case 'root':
    case 'state':
    case 'config':
    case 'account':
    case 'inventory':
    case 'loader-cache':
    case 'declared':
      return undefined;
  }
}

/** Follows the image's own symbolic links in every component; at most 40, as the kernel does. */
function throughLinks(path: string, byPath: ReadonlyMap<string, RootfsEntry>): string {
  let rest = path.split('/').filter((part) => part !== '');
  let done: string[] = [];
  for (let links = 0; rest.length > 0;) {
    const [part = '', ...others] = rest;
    rest = others;
    if (part === '.') continue;
    if (part === '..') {
      done.pop();
      continue;
    }
    const entry = byPath.get(`/${[...done, part].join('/')}`);
    if (entry?.kind === 'symlink' && links < 40) {
      links += 1;
      if (entry.target.startsWith('/')) done = [];
      rest = [...entry.target.split('/').filter((piece) => piece !== ''), ...rest];
    } else {
      done.push(part);
    }
  }
  return `/${done.join('/')}`;
}
