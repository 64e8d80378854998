import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { testTools } from '../../build/host/test-tools.js';

const tests = join(import.meta.dirname, '..');

describe('npm run host:tools', () => {
  it('installs every program that a test requires, and no other', () => {
    const required = new Set<string>();
    for (const path of readdirSync(tests, { recursive: true, encoding: 'utf8' })) {
      if (!path.endsWith('.ts')) continue;
      const source = readFileSync(join(tests, path), 'utf8');
      for (const [, names = ''] of source.matchAll(/requireTools\(([^)]*)\)/g)) {
        for (const [, name] of names.matchAll(/'([^']+)'/g)) if (name !== undefined) required.add(name);
      }
    }
    expect([...testTools.keys()].sort()).toEqual([...required].sort());
  });
});
