import { posix } from 'node:path';
import { errorAt, warningAt, type Problem } from './problem.js';
import { wordsOf, type Statement } from './statements.js';

/** Where the volume is: Debian's dhcpd keeps its leases in the first, Fedora's in the second. */
const volumes = ['/var/lib/dhcp', '/var/lib/dhcpd'];
/** dhcpd's own max-lease-time, in seconds (dhcpd.conf(5)). */
const ownMaximum = 86_400;
/** What `infinite` stands for, in seconds. */
const infinite = 2 ** 32 - 1;

/** Lease times in force in a block, in seconds. */
interface LeaseTimes {
  readonly default: Setting | undefined;
  readonly minimum: Setting | undefined;
  readonly maximum: Setting | undefined;
}

interface Setting {
  readonly seconds: number;
  readonly shown: string;
  readonly statement: Statement;
}

/** Settings that contradict one another, or that the image and its container do not have the means for. */
export function settingProblems(statements: readonly Statement[]): readonly Problem[] {
  const problems: Problem[] = [];

  function walk(list: readonly Statement[], around: LeaseTimes): void {
    const times = leaseTimes(list, around);
    problems.push(...leaseTimeProblems(times, around));
    for (const statement of list) {
      problems.push(...ofImage(statement), ...ofContainer(statement));
      // What a class sets counts before what the subnet of the client sets; a condition may hold or not.
      const inherited = /^(?:shared-network|subnet|pool|group|host)$/.test(statement.keyword);
      if (statement.block !== undefined) walk(statement.block, inherited ? times : none);
    }
  }

  walk(statements, none);
  return problems;
}

const none: LeaseTimes = { default: undefined, minimum: undefined, maximum: undefined };

function leaseTimes(list: readonly Statement[], around: LeaseTimes): LeaseTimes {
  const own = (keyword: string): Setting | undefined => {
    const statement = list.findLast((candidate) => candidate.keyword === keyword);
    const shown = statement === undefined ? '' : wordsOf(statement).slice(1).join(' ');
    const seconds = /^infinite$/i.test(shown)
      ? infinite
      : /^[1-9]\d*$/.test(shown)
        ? Number(shown)
        : undefined;
    return statement === undefined || seconds === undefined ? undefined : { seconds, shown, statement };
  };
  return {
    default: own('default-lease-time') ?? around.default,
    minimum: own('min-lease-time') ?? around.minimum,
    maximum: own('max-lease-time') ?? around.maximum,
  };
}

/** Each pair once: in the block that sets at least one of the two. */
function leaseTimeProblems(times: LeaseTimes, around: LeaseTimes): readonly Problem[] {
  const problems: Problem[] = [];
  const compare = (key: 'default' | 'minimum', text: (setting: Setting, maximum: string) => string): void => {
    const { [key]: setting, maximum } = times;
    if (setting === undefined) return;
    const isNew = setting !== around[key];
    if (maximum === undefined) {
      // A block inside may set its own; that is seen there.
      if (isNew && key === 'default' && setting.seconds > ownMaximum) {
        const { place } = setting.statement;
        problems.push(
          warningAt(
            place,
            `${text(setting, `${String(ownMaximum)}, the server’s own`)}: set max-lease-time as well`,
          ),
        );
      }
    } else if (setting.seconds > maximum.seconds && (isNew || maximum !== around.maximum)) {
      const { place } = isNew ? setting.statement : maximum.statement;
      problems.push(warningAt(place, text(setting, maximum.shown)));
    }
  };
  compare(
    'default',
    ({ shown }, maximum) => `default-lease-time ${shown} is above max-lease-time ${maximum}`,
  );
  compare('minimum', ({ shown }, maximum) => `min-lease-time ${shown} is above max-lease-time ${maximum}`);
  return problems;
}

function ofImage(statement: Statement): readonly Problem[] {
  const { keyword, tokens, place } = statement;
  const [, value] = tokens;
  if (keyword === 'lease-file-name' && value?.kind === 'string') {
    const path = posix.resolve('/', value.text);
    return volumes.includes(posix.dirname(path)) || volumes.some((volume) => path.startsWith(`${volume}/`))
      ? []
      : [
          errorAt(
            place,
            `lease-file-name ${value.text} is outside of the volume (${volumes.join(' or ')}): the leases cannot be kept`,
          ),
        ];
  }
  if (keyword === 'pid-file-name') {
    return [warningAt(place, 'pid-file-name has no effect: the image’s server runs with --no-pid')];
  }
  if (keyword === 'omapi-port') {
    return [
      warningAt(
        place,
        `omapi-port opens TCP port ${value?.text ?? ''} on every address of the host: whoever reaches it can ask for leases and change them`,
      ),
    ];
  }
  const call = tokens.find(
    ({ kind, text }, index) =>
      kind === 'name' && text.toLowerCase() === 'execute' && tokens[index + 1]?.text === '(',
  );
  return call === undefined
    ? []
    : [
        warningAt(
          { file: call.file, line: call.line, column: call.column },
          'execute runs a program, and the image holds none but the server',
        ),
      ];
}

/** What Podman sends as a container's client identifier (option 61): a zero and the container's ID. */
const containerIdentifier = /^(?:\0[0-9a-f]{64}|0?0(?::[36][0-9a-f]){64})$/i;

/** A host that is known by the ID of a container alone is met once, and never again. */
function ofContainer({ keyword, block = [] }: Statement): readonly Problem[] {
  if (keyword !== 'host' || block.some((statement) => statement.keyword === 'hardware')) return [];
  return block.flatMap((statement) => {
    const words = wordsOf(statement);
    if (words[0] !== 'option' || words[1] !== 'dhcp-client-identifier') return [];
    if (!containerIdentifier.test(words.slice(2).join(''))) return [];
    const text =
      'this identifier is the ID of a container, which has another one each time it is made: write hardware and its MAC address';
    return [warningAt(statement.place, text)];
  });
}
