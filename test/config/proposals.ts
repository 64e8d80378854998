/** Settings of a configuration file that are commented out: a line, or a block with its braces. */
export interface Proposal {
  /** Its first line, from 1. */
  readonly line: number;
  /** As it would stand in the file. */
  readonly text: string;
  /** How many lines it has. */
  readonly lines: number;
}

const commented = /^( *)#(?! |$)/;

/** What the file proposes, from its beginning: lines that begin with `#` and a word, and the blocks they open. */
export function proposalsOf(text: string): readonly Proposal[] {
  const found: Proposal[] = [];
  const lines = text.split('\n');
  for (let index = 0; index < lines.length; index++) {
    if (!commented.test(lines[index] ?? '')) continue;
    const first = index;
    const taken: string[] = [];
    let depth = 0;
    do {
      const line = (lines[index] ?? '').replace(/^( *)#/, '$1');
      if (line === lines[index]) throw new Error(`line ${String(index + 1)} is not commented out`);
      depth += line.split('{').length - line.split('}').length;
      taken.push(line);
      index += 1;
    } while (depth > 0 && index < lines.length);
    index -= 1;
    found.push({ line: first + 1, text: taken.join('\n'), lines: taken.length });
  }
  return found;
}

/** The file with some of its proposals in force. */
export function withProposals(text: string, chosen: readonly Proposal[]): string {
  const lines = text.split('\n');
  for (const proposal of chosen) {
    lines.splice(proposal.line - 1, proposal.lines, ...proposal.text.split('\n'));
  }
  return lines.join('\n');
}
