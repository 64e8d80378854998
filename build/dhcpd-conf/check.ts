import { declarationProblems } from './declarations.js';
import { interfaceFindings, type InterfaceFinding, type ServedInterface } from './interfaces.js';
import { networksOf, type Networks } from './networks.js';
import type { Problem } from './problem.js';
import { readConfiguration, type Configuration } from './read.js';
import { settingProblems } from './settings.js';

export interface ConfigurationReport {
  /** Every file that was read, dhcpd.conf first. */
  readonly files: readonly string[];
  /** Undefined when the files cannot be understood. */
  readonly networks: Networks | undefined;
  readonly interfaces: readonly InterfaceFinding[];
  /** In the order of the files, and in each file from its beginning. */
  readonly problems: readonly Problem[];
}

/**
 * Everything about a configuration that can be said without a server. It never refuses a statement that it does not
 * know: whether that is right is dhcpd's own word.
 *
 * @param directory the one that the container sees as /etc/dhcp
 */
export async function checkConfiguration(
  directory: string,
  interfaces: readonly ServedInterface[],
): Promise<ConfigurationReport> {
  const configuration = await readConfiguration(directory);
  const { file, files, statements, problems } = configuration;
  if (problems.some(({ severity }) => severity === 'error')) {
    // What stands behind a missing brace would be judged in the wrong place.
    return { files, networks: undefined, interfaces: [], problems: inOrder(configuration, problems) };
  }
  const networks = networksOf(statements);
  const served = interfaceFindings(interfaces, networks, { file, line: 1, column: 1 });
  const found = [
    ...problems,
    ...declarationProblems(statements),
    ...networks.problems,
    ...settingProblems(statements),
    ...served.problems,
  ];
  return { files, networks, interfaces: served.findings, problems: inOrder(configuration, found) };
}

function inOrder({ files }: Configuration, problems: readonly Problem[]): readonly Problem[] {
  return [...problems].sort(
    ({ place: a }, { place: b }) =>
      files.indexOf(a.file) - files.indexOf(b.file) || a.line - b.line || a.column - b.column,
  );
}
