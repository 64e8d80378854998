import { families } from './definition.js';
import { fieldOf, type YamlDocument } from './document.js';
import { shown, type Problem } from './problem.js';
import type { RawDefinition } from './schema.js';

/** A directory of its own is mounted over whatever the image holds there, so these cannot be one. */
const systemDirectories: ReadonlySet<string> = new Set([
  ...['/boot', '/etc', '/home', '/media', '/mnt', '/opt', '/root', '/run', '/srv', '/tmp'],
  ...['/var', '/var/cache', '/var/lib', '/var/lib/dpkg', '/var/log', '/var/run', '/var/spool', '/var/tmp'],
]);
/** Programs, libraries, package records and the kernel's own file systems: nothing below them either. */
const systemTree = /^\/(usr|bin|sbin|lib(32|64|x32)?|dev|proc|sys|var\/lib\/dpkg)(\/|$)/;

/** What no schema can say: how the fields of a definition fit each other. */
export function checkMeaning(
  raw: RawDefinition,
  { places }: Pick<YamlDocument, 'places'>,
): readonly Problem[] {
  const problems: Problem[] = [];
  const report = (pointer: string, text: string, at = pointer): void => {
    problems.push({ offset: places.get(at)?.value ?? 0, field: fieldOf(pointer), text });
  };

  const directories = [{ pointer: '/config', path: raw.config }];
  for (const family of families) {
    const chosen = raw.packages[family];
    if (chosen === undefined) continue;
    const pointer = `/packages/${family}/state`;
    if (raw.state !== undefined && chosen.state === undefined) {
      const text = 'expected the directory of the state because `state` is declared, found nothing';
      report(pointer, text, `/packages/${family}`);
    }
    if (raw.state === undefined && chosen.state !== undefined) {
      report(pointer, `expected no directory because no \`state\` is declared, found ${shown(chosen.state)}`);
    }
    directories.push({ pointer, path: chosen.state });
  }

  for (const { pointer, path } of directories) {
    if (path === undefined) continue;
    if (systemDirectories.has(path) || systemTree.test(path)) {
      const text = 'expected a directory of the service itself, which a volume can cover';
      report(pointer, `${text}, found the system's ${path}`);
    }
    if (pointer !== '/config' && raw.config !== undefined && overlap(path, raw.config)) {
      report(
        pointer,
        `expected a directory apart from the config directory ${raw.config}, found ${shown(path)}`,
      );
    }
  }

  const callers = new Set<string>();
  for (const [index, { by }] of (raw.dlopen ?? []).entries()) {
    if (callers.has(by))
      report(`/dlopen/${String(index)}/by`, `expected each object once, found ${shown(by)} again`);
    callers.add(by);
  }
  return problems;
}

/** Whether two normalised paths are the same directory or one holds the other. */
function overlap(a: string, b: string): boolean {
  return `${a}/`.startsWith(`${b}/`) || `${b}/`.startsWith(`${a}/`);
}
