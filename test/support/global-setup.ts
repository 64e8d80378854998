import {
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const checkout = fileURLToPath(new URL('../..', import.meta.url));

/**
 * Compiles build/ to dist/ once before the tests, where dist/ is older, so that tests that run the program run its
 * sources as they are. Each file appears whole, because another run of the tests may be using dist/ meanwhile. Types
 * are not checked here: `npm run check:types` does.
 */
export default async function compileProgram(): Promise<void> {
  const begun = new Date();
  const sources = filesOf('build', '.ts');
  const outputs = new Set(filesOf('dist', '.js'));
  const wanted = new Set(sources.map(outputOf));
  const newest = Math.max(...sources.map((path) => statSync(join(checkout, 'build', path)).mtimeMs));
  const program = join(checkout, 'dist/cli.js');
  const isComplete = outputs.size === wanted.size && [...wanted].every((path) => outputs.has(path));
  if (isComplete && statSync(program).mtimeMs >= newest) return;

  const { default: ts } = await import('typescript');
  const read = ts.readConfigFile(join(checkout, 'tsconfig.build.json'), ts.sys.readFile.bind(ts.sys));
  const { options } = ts.parseJsonConfigFileContent(read.config, ts.sys, checkout);
  for (const path of sources) {
    const { outputText } = ts.transpileModule(readFileSync(join(checkout, 'build', path), 'utf8'), {
      compilerOptions: { ...options, module: ts.ModuleKind.ESNext },
    });
    replace(join(checkout, 'dist', outputOf(path)), outputText);
  }
  for (const path of outputs) if (!wanted.has(path)) rmSync(join(checkout, 'dist', path), { force: true });
  // What is edited from now on is newer.
  utimesSync(program, begun, begun);
}

function filesOf(folder: string, ending: string): readonly string[] {
  const directory = join(checkout, folder);
  mkdirSync(directory, { recursive: true });
  return readdirSync(directory, { recursive: true, encoding: 'utf8' }).filter((path) =>
    path.endsWith(ending),
  );
}

function outputOf(source: string): string {
  return source.replace(/\.ts$/, '.js');
}

function replace(path: string, text: string): void {
  mkdirSync(dirname(path), { recursive: true });
  const aside = `${path}.${process.pid}.tmp`;
  writeFileSync(aside, text);
  renameSync(aside, path);
}
