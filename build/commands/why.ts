import type { Context } from './context.js';
import { requestOf, type ImageOptions } from './request.js';
import { withPrepared } from './services.js';
import type { PreparedImage } from '../pipeline.js';
import type { RootfsEntry } from '../rootfs/plan.js';
import { describeReason, packageOf } from '../rootfs/reason.js';
import { cannot } from '../support/errors.js';
import { nearest } from '../support/nearest.js';

interface Step {
  readonly path: string;
  readonly package: string | null;
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
  const answers = await withPrepared(request, context, ({ images }) =>
    images.map((image) => ({ architecture: image.architecture, steps: stepsTo(path, image) })),
  );
  context.print(
    options.json === true
      ? `${JSON.stringify({ path, answers }, undefined, 2)}\n`
      : answers.map(({ architecture, steps }) => textOf(architecture, steps)).join('\n'),
  );
}

function textOf(architecture: string, steps: readonly Step[]): string {
  const lines = steps.map(
    (step, depth) =>
      `${'  '.repeat(depth + 1)}${step.path}  (${step.package ?? 'written by the plan'}): ${step.reason}`,
  );
  return `${architecture}\n${lines.join('\n')}\n`;
}

/** The chain outermost first: the root program, what it needs, ... , the file asked for. */
function stepsTo(path: string, image: PreparedImage): readonly Step[] {
  const byPath = new Map(image.plan.entries.map((entry) => [`/${entry.path}`, entry]));
  const wanted = `/${path.replace(/^\/+|\/+$/g, '')}`;
  const real = throughLinks(wanted, byPath);
  const entry = byPath.get(wanted) ?? byPath.get(real);
  if (entry === undefined) {
    const close = nearest(wanted, [...byPath.keys()]);
    throw cannot('explain', `${wanted} (${image.architecture})`, 'it is not in the image', {
      hint: close === undefined ? 'dhcpd-scratch plan lists what is' : `did you mean ${close}?`,
      exitCode: 2,
    });
  }
  const steps = chainOf(entry, byPath, new Set());
  const last = `/${entry.path}`;
  return last === wanted
    ? steps
    : [...steps, { path: wanted, package: null, reason: `another name of ${last}` }];
}

function chainOf(
  entry: RootfsEntry,
  byPath: ReadonlyMap<string, RootfsEntry>,
  seen: Set<RootfsEntry>,
): readonly Step[] {
  seen.add(entry);
  const step: Step = {
    path: `/${entry.path}`,
    package: packageOf(entry) ?? null,
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
