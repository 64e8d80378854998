import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { loadDefinition } from '../../build/definition/load.js';
import { ToolError } from '../../build/support/errors.js';
import { schema, type Field } from './schema.js';

const project = join(import.meta.dirname, '../..');
const guide = await readFile(join(project, 'docs/writing-a-definition.md'), 'utf8');

/** The block of code that follows a comment. */
function block(marker: string): string {
  const found = new RegExp(`<!-- ${marker} -->\n\n\`\`\`\\w*\n([^]*?)\n\`\`\`\n`).exec(guide)?.[1];
  if (found === undefined) throw new Error(`no block after ${marker}`);
  return `${found}\n`;
}

/** One line for every field of the schema, in its order. */
function reference({ properties = {}, required = [] }: Field, path: string): readonly string[] {
  return Object.entries(properties).flatMap(([name, field]) => {
    const own = `${path}${name}`;
    const shown = required.includes(name) ? `\`${own}\`` : `[\`${own}\`]`;
    const standard = field.default === undefined ? '' : ` Default: \`${JSON.stringify(field.default)}\`.`;
    const examples = (field.examples ?? []).map((example) => `\`${JSON.stringify(example)}\``).join(', ');
    return [
      `- ${shown}: ${field.description ?? ''}${standard}${examples === '' ? '' : ` Such as ${examples}.`}`,
      ...reference(field, `${own}.`),
      ...(field.items === undefined ? [] : reference(field.items, `${own}[].`)),
    ];
  });
}

describe('docs/writing-a-definition.md', () => {
  it('explains every field as the schema does', () => {
    const section = /<!-- fields: .* -->\n\n([^]*?)\n\n<!-- end of fields -->/.exec(guide)?.[1];
    const lines = reference(schema, '');
    expect(lines.length).toBeGreaterThan(25);
    expect(section?.split('\n')).toEqual(lines);
  });

  it('shows the definition of dnsmasq as it is', async () => {
    expect(block('images/scratch/dnsmasq.yaml')).toBe(
      await readFile(join(project, 'images/scratch/dnsmasq.yaml'), 'utf8'),
    );
  });

  it('shows the errors that its wrong definition gives', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'definition-'));
    const file = join(directory, 'wrong.yaml');
    await writeFile(file, block('wrong'));
    const error: unknown = await loadDefinition(file).catch((reason: unknown) => reason);
    await rm(directory, { recursive: true });
    if (!(error instanceof ToolError)) throw new Error('the wrong definition was accepted');
    const printed = error.details.map((line) => `error: ${line.replace(`${directory}/`, '')}\n`);
    expect(printed.length).toBeGreaterThan(3);
    expect(block('errors')).toBe(printed.join(''));
  });
});
