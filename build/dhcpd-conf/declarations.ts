import { canHold } from './keywords.js';
import { errorAt, type Place, type Problem } from './problem.js';
import { wordsOf, type Statement } from './statements.js';

/** Statements that mean nothing outside of these blocks. */
const homes = new Map([
  ['range', /^(?:subnet|pool)$/],
  ['pool', /^(?:subnet|shared-network)$/],
  ['fixed-address', /^host$/],
  ['hardware', /^host$/],
]);

/** Statements of DHCPv6: dhcpd serves one version, and the image's runs with -4. */
const versionSix = /^(?:subnet6|pool6|range6|prefix6|fixed-address6|fixed-prefix6)$/;

/**
 * What stands where it cannot, and what refers to something that is not there. All of it dhcpd refuses too, though not
 * always in these words.
 */
export function declarationProblems(statements: readonly Statement[]): readonly Problem[] {
  const problems: Problem[] = [];
  const classes = new Set<string>();
  const peers = new Map<string, Place>();
  const keys = new Set<string>();
  const usedPeers = new Set<string>();

  /** dhcpd reads from top to bottom: what is declared further down is not there yet. */
  function declare(
    { keyword, block }: Statement,
    place: Place,
    [, second = '', third = '']: readonly string[],
  ): void {
    if (block === undefined) return;
    if (/^(?:class|vendor-class|user-class)$/.test(keyword)) classes.add(second);
    if (keyword === 'key') keys.add(second);
    if (keyword === 'failover') peers.set(third, place);
  }

  /** @param within first words of the blocks around, the outermost first */
  function walk(list: readonly Statement[], within: readonly string[]): void {
    const block = within.at(-1) ?? '';
    for (const statement of list) {
      const { keyword, place } = statement;
      const words = wordsOf(statement);
      const home = homes.get(keyword);
      declare(statement, place, words);
      if (versionSix.test(keyword)) {
        problems.push(errorAt(place, `${keyword} is of DHCPv6, and this server is one for IPv4`));
      } else if (!canHold(block, keyword)) {
        problems.push(
          errorAt(place, `${keyword} cannot be in ${block}: a closing brace may be missing before it`),
        );
      } else if (home !== undefined && !isLeftToServer(within) && !home.test(block)) {
        problems.push(errorAt(place, `${keyword} must be in ${namesOf(home)}`));
      } else {
        problems.push(...references(statement, words, block));
      }
      if (statement.block !== undefined) walk(statement.block, [...within, keyword]);
    }
  }

  function references(statement: Statement, words: readonly string[], block: string): readonly Problem[] {
    const { keyword, place } = statement;
    const [, second = '', third = '', fourth = ''] = words;
    if (keyword === 'pool' && !holdsRange(statement)) {
      return [errorAt(place, 'this pool has no range')];
    }
    if (keyword === 'shared-network' && !holdsSubnet(statement)) {
      return [errorAt(place, `shared-network ${second} has no subnet`)];
    }
    if (/^(?:allow|deny)$/.test(keyword) && second === 'members' && third === 'of' && !classes.has(fourth)) {
      return [errorAt(place, `no class ${JSON.stringify(fourth)} is declared before this`)];
    }
    if (keyword === 'subclass' && !classes.has(second)) {
      return [errorAt(place, `no class ${JSON.stringify(second)} is declared before this`)];
    }
    if (block === 'zone' && keyword === 'key' && !keys.has(second)) {
      return [errorAt(place, `no key ${second} is declared before this`)];
    }
    if (keyword === 'failover' && statement.block === undefined && second === 'peer') {
      usedPeers.add(third);
      if (!peers.has(third))
        return [errorAt(place, `no failover peer ${JSON.stringify(third)} is declared before this`)];
    }
    return [];
  }

  walk(statements, []);
  for (const [name, place] of peers) {
    if (!usedPeers.has(name)) {
      problems.push(
        errorAt(place, `no pool has failover peer ${JSON.stringify(name)}: the server does not start`),
      );
    }
  }
  return problems;
}

/** Blocks that hold their statements in place of the block around, or that are not known here. */
function isLeftToServer(within: readonly string[]): boolean {
  return within.some((word) => !/^(?:subnet|shared-network|pool|group|host|class|subclass)$/.test(word));
}

function namesOf(home: RegExp): string {
  return home.source.replace(/^\^(?:\(\?:)?|\)?\$$/g, '').replaceAll('|', ' or ');
}

function holdsRange({ block = [] }: Statement): boolean {
  return block.some((statement) => statement.keyword === 'range');
}

function holdsSubnet({ block = [] }: Statement): boolean {
  return block.some((statement) => /^subnet6?$/.test(statement.keyword) || holdsSubnet(statement));
}
