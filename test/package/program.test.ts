import { describe, expect, it } from 'vitest';
import { locateProgram } from '../../build/package/program.js';
import { ToolError } from '../../build/support/errors.js';
import { packageOf, treeOf } from '../support/package-tree.js';

describe('locateProgram', () => {
  it('finds a program wherever the package puts it, in the order of the directories', async () => {
    const tree = await treeOf(
      packageOf(
        'p',
        { kind: 'file', path: 'usr/bin/both', mode: 0o755 },
        { kind: 'file', path: 'sbin/both', mode: 0o755 },
        { kind: 'file', path: 'usr/libexec/helper', mode: 0o755 },
        { kind: 'file', path: 'usr/sbin/data', mode: 0o644 },
        { kind: 'file', path: 'usr/bin/data', mode: 0o755 },
        { kind: 'symlink', path: 'usr/sbin/alias', target: '/etc/alternatives/alias' },
        { kind: 'symlink', path: 'etc/alternatives/alias', target: '/usr/libexec/helper' },
        { kind: 'symlink', path: 'usr/sbin/loop', target: 'loop' },
      ),
    );
    expect(locateProgram(tree, 'p', 'both')).toBe('/usr/sbin/both');
    expect(locateProgram(tree, 'p', 'helper')).toBe('/usr/libexec/helper');
    expect(locateProgram(tree, 'p', 'data')).toBe('/usr/bin/data');
    expect(locateProgram(tree, 'p', 'alias')).toBe('/usr/sbin/alias');
    expect(() => locateProgram(tree, 'p', 'loop')).toThrow(
      /^cannot find program loop: package p has no program/,
    );
  });

  it('names the nearest program', async () => {
    const tree = await treeOf(packageOf('server', { kind: 'file', path: 'usr/sbin/served', mode: 0o755 }));
    const hint = (name: string): string | undefined => {
      try {
        return locateProgram(tree, 'server', name);
      } catch (error) {
        return error instanceof ToolError ? error.hint : String(error);
      }
    };
    expect(hint('servd')).toBe('did you mean served?');
    expect(hint('zzz')).toBe('correct roots or packages in the definition');
  });
});
