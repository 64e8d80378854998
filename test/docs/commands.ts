import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The checkout whose documents are tested. */
export const project = fileURLToPath(new URL('../..', import.meta.url));

/** A command as a reader would copy it. */
export interface DocumentedCommand {
  /** Relative to the checkout. */
  readonly file: string;
  /** Of its first word, from 1. */
  readonly line: number;
  /** Continued lines are kept as they are, backslashes included; a comment after it is not. */
  readonly text: string;
  /** The block that the document shows as its output, directly below the block that this command ends. */
  readonly output?: string;
}

/** All documents, the first that people read first. */
export const documents: readonly string[] = [
  'README.md',
  'CONTRIBUTING.md',
  ...['docs', 'images', 'quadlet', 'config', 'bench'].flatMap((folder) =>
    readdirSync(join(project, folder), { recursive: true, encoding: 'utf8' })
      .filter((path) => path.endsWith('.md'))
      .map((path) => join(folder, path))
      .sort(),
  ),
];

export function readDocument(file: string): string {
  return readFileSync(join(project, file), 'utf8');
}

export function documentedCommands(): readonly DocumentedCommand[] {
  return documents.flatMap((file) => commandsIn(file, readDocument(file)));
}

/**
 * Every command of a document, in its order: the lines of blocks of shell code, fenced or indented, and code in running
 * text or tables that begins with the name of a program and goes on. Where running text writes a word such as `NAME`
 * in capitals or an ellipsis, it shows a form; nobody can run that.
 */
export function commandsIn(file: string, markdown: string): readonly DocumentedCommand[] {
  const lines = markdown.split('\n');
  const found: DocumentedCommand[] = [];
  const prose: string[] = lines.map(() => '');
  for (let index = 0; index < lines.length; index += 1) {
    const line = lines[index] ?? '';
    const fence = /^ *(```+|~~~+)(\w*)/.exec(line);
    if (fence !== null) {
      const end = lines.findIndex((other, at) => at > index && other.trim() === fence[1]);
      if (end < 0) throw new Error(`${file}:${index + 1}: the block of code has no end`);
      if (shells.has(fence[2] ?? '')) {
        const inBlock = commandsOf(file, lines.slice(index + 1, end), index + 2);
        const last = inBlock.at(-1);
        const output = outputBelow(lines, end + 1);
        found.push(
          ...(last === undefined || output === undefined
            ? inBlock
            : [...inBlock.slice(0, -1), { ...last, output }]),
        );
      }
      index = end;
    } else if (/^ {4}/.test(line) && (lines[index - 1] ?? '') === '') {
      let end = index;
      while (/^ {4}/.test(lines[end] ?? '')) end += 1;
      const block = lines.slice(index, end).map((code) => code.slice(4));
      // A paragraph in a list is indented, too: what is not a program's name is no command.
      found.push(
        ...commandsOf(file, block, index + 1).filter(({ text }) => programs.has(text.split(' ')[0] ?? '')),
      );
      for (let at = index; at < end; at += 1) prose[at] = lines[at] ?? '';
      index = end - 1;
    } else {
      prose[index] = line;
    }
  }
  const text = prose.join('\n');
  for (const match of text.matchAll(/(?<!`)`([^`]+)`(?!`)/g)) {
    const code = (match[1] ?? '').replaceAll(/\s+/g, ' ').trim();
    const line = text.slice(0, match.index).split('\n').length;
    if (isCommand(code)) found.push({ file, line, text: code });
  }
  return found.sort((one, other) => one.line - other.line);
}

const shells = new Set(['sh', 'bash', 'shell', 'console']);
const programs = new Set([
  ...['npm', 'npx', 'node', 'dhcpd-scratch', '.ci/run', 'git', 'sudo', 'curl'],
  ...['podman', 'docker', 'buildah', 'skopeo', 'systemctl', 'apt-get', 'apt-file', 'dpkg-deb'],
]);

/** `npm ci` is a command, `podman load` only the name of one, `podman run IMAGE` the form of one. */
function isCommand(code: string): boolean {
  const words = code.split(' ');
  const [program = ''] = words;
  if (!programs.has(program)) return false;
  if (words.some((word) => /^[A-Z]{2,}$|\/[A-Z]+$|…/.test(word))) return false;
  return words.length >= (program === '.ci/run' ? 1 : program === 'npm' ? 2 : 3);
}

/** @param line number of the first */
function commandsOf(file: string, block: readonly string[], line: number): DocumentedCommand[] {
  const found: DocumentedCommand[] = [];
  for (let index = 0; index < block.length; index += 1) {
    const first = index;
    while ((block[index] ?? '').endsWith('\\') && index + 1 < block.length) index += 1;
    const text = block
      .slice(first, index + 1)
      .join('\n')
      .replace(/(^|\s+)#(\s.*)?$/, '')
      .replace(/^\$ /, '')
      .trim();
    if (text !== '') found.push({ file, line: line + first, text });
  }
  return found;
}

/** The block without a language that follows, when nothing but an empty line is between. */
function outputBelow(lines: readonly string[], from: number): string | undefined {
  const begin = lines[from] === '' ? from + 1 : from;
  if (lines[begin] !== '```') return undefined;
  const end = lines.indexOf('```', begin + 1);
  return lines.slice(begin + 1, end).join('\n');
}

/** A command in one line, as a title. */
export function inOneLine(text: string): string {
  return text.replaceAll(/\\\n\s*/g, '');
}
