import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { testTools } from '../../build/host/test-tools.js';

const tests = join(import.meta.dirname, '..');
/** These come with Node.js, without which nothing runs. */
const withNode = ['npm', 'npx'];

describe('npm run host:tools', () => {
  it('installs every program that a test requires', () => {
    const sources = readdirSync(tests, { recursive: true, encoding: 'utf8' })
      .filter((path) => path.endsWith('.ts'))
      .map((path) => readFileSync(join(tests, path), 'utf8'));
    // Names are written in the call itself, or in a constant such as `debianArchiveTools`.
    const lists = sources.flatMap((source) => [
      ...source.matchAll(/requireTools\(([^)]*)\)/g),
      ...source.matchAll(/const \w+Tools[^=]*= \[([^\]]*)\]/g),
    ]);
    const required = new Set(lists.flatMap(([, list = '']) => list.match(/(?<=')[\w.-]+(?=')/g) ?? []));
    expect(required.size).toBeGreaterThan(20);
    expect([...required].filter((name) => !testTools.has(name) && !withNode.includes(name))).toEqual([]);
  });
});
