import { cannot } from '../../support/errors.js';

/** Bytes of a line of YAML; those of artifacts are short. */
const longestLine = 1024 ** 2;
const mostArtifacts = 1_000_000;
/** `- dhcp-server-12:4.3.6-47.module_el8.x86_64`, in quotation marks or without. */
const artifactLine = /^\s*-\s+["']?([^\s"']+-[0-9]+:[^\s"'-]+-[^\s"'-]+\.[0-9A-Za-z_]+)["']?\s*$/;

/**
 * NAME-EPOCH:VERSION-RELEASE.ARCH of every package that modules.yaml lists as the artifact of a module. Nothing else
 * in such documents has that form, so that they are read line by line: they are too large for a parser of YAML.
 *
 * @throws ToolError
 */
export async function readModuleArtifacts(
  chunks: AsyncIterable<Uint8Array>,
  where: string,
): Promise<ReadonlySet<string>> {
  const artifacts = new Set<string>();
  const decoder = new TextDecoder();
  let rest = '';
  const read = (line: string): void => {
    const artifact = artifactLine.exec(line)?.[1];
    if (artifact !== undefined) artifacts.add(artifact);
    if (artifacts.size > mostArtifacts) throw cannot('read', where, 'it has too many artifacts');
  };
  for await (const chunk of chunks) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split('\n');
    rest = lines.pop() ?? '';
    if (rest.length > longestLine) throw cannot('read', where, 'a line of it is too long');
    for (const line of lines) if (line.length < 2048) read(line);
  }
  if (rest.length < 2048) read(rest);
  return artifacts;
}

/** Whether a release says that its package was built in a module. */
export function isModular(release: string): boolean {
  return /\.module[_+]/.test(release);
}
