import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

import ts from 'typescript';

const program = fileURLToPath(new URL('./oci-build.ts', import.meta.url));
const checkout = join(dirname(program), '../..');

/**
 * Compiles the product's sources and the test helpers, without checking types, so that another process, user or
 * version of Node can run them. Gives the path of the compiled `test/support/oci-build.js`.
 */
export function compileFor(directory: string): string {
  for (const folder of ['build/image', 'build/rootfs', 'build/support', 'test/support']) {
    for (const name of readdirSync(join(checkout, folder)).filter((entry) => entry.endsWith('.ts'))) {
      const to = join(directory, folder, name.replace(/ts$/, 'js'));
      mkdirSync(dirname(to), { recursive: true });
      const { outputText } = ts.transpileModule(readFileSync(join(checkout, folder, name), 'utf8'), {
        compilerOptions: {
          module: ts.ModuleKind.ESNext,
          target: ts.ScriptTarget.ES2022,
          verbatimModuleSyntax: true,
        },
      });
      writeFileSync(to, outputText);
    }
  }
  writeFileSync(join(directory, 'package.json'), '{"type": "module", "version": "0.0.0"}');
  symlinkSync(join(checkout, 'node_modules'), join(directory, 'node_modules'));
  return join(directory, 'test/support', basename(program).replace(/ts$/, 'js'));
}
