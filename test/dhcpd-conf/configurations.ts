import fc from 'fast-check';

/** Words and marks of a configuration; a string with its quotes is one. */
export type Words = readonly string[];

const flag = fc.constantFrom('true', 'false', 'on', 'off');
const seconds = fc.constantFrom('300', '600', '3600', '0x258');
const text = fc.constantFrom(
  '"home.arpa"',
  '"a; b { c } # d"',
  '"say \\"hi\\""',
  '"tab\\tend\\\\"',
  '"\\101\\x42"',
  '"two\nlines"',
  '"é"',
  '""',
);
const address = fc.integer({ min: 1, max: 254 }).map((last) => `203.0.113.${String(last)}`);

/** Any valid expression that gives data. From dhcp-eval(5). */
const data: fc.Arbitrary<Words> = fc.letrec<{ data: Words }>((tie) => ({
  data: fc.oneof(
    { maxDepth: 3 },
    fc.constantFrom(
      ['option', 'host-name'],
      ['hardware'],
      ['option', 'agent.circuit-id'],
      ['leased-address'],
    ),
    fc.constantFrom(['"x"'], ['01:02:0a'], ['config-option', 'server.filename'], ['host-decl-name']),
    tie('data').map((inner): Words => ['substring', '(', ...inner, ',', '0', ',', '3', ')']),
    tie('data').map((inner): Words => ['lcase', '(', ...inner, ')']),
    tie('data').map((inner): Words => [
      'binary-to-ascii',
      '(',
      '16',
      ',',
      '8',
      ',',
      '":"',
      ',',
      ...inner,
      ')',
    ]),
    fc.tuple(tie('data'), tie('data')).map(([a, b]): Words => ['concat', '(', ...a, ',', ...b, ')']),
    fc
      .tuple(tie('data'), tie('data'))
      .map(([a, b]): Words => ['pick-first-value', '(', ...a, ',', ...b, ')']),
  ),
})).data;

const condition: fc.Arbitrary<Words> = fc.oneof(
  fc.tuple(data, data).map(([a, b]): Words => [...a, '=', ...b]),
  fc
    .tuple(data, data)
    .map(([a, b]): Words => ['exists', 'host-name', 'or', 'not', '(', ...a, '=', ...b, ')']),
  fc.tuple(data, data).map(([a, b]): Words => [...a, '!=', ...b]),
  fc.constantFrom(
    ['known'],
    ['not', 'known'],
    ['exists', 'agent.circuit-id'],
    ['exists', 'host-name', 'and', 'known'],
    ['option', 'host-name', '~=', '"^a.*"'],
  ),
);

/** What may stand in every block. */
const parameter: fc.Arbitrary<Words> = fc.oneof(
  seconds.map((value): Words => ['default-lease-time', value, ';']),
  flag.map((value): Words => ['ping-check', value, ';']),
  flag.map((value): Words => ['Ignore-Client-UIDs', value, ';']),
  text.map((value): Words => ['filename', value, ';']),
  address.map((value): Words => ['next-server', value, ';']),
  text.map((value): Words => ['option', 'domain-name', value, ';']),
  address.map((value): Words => ['option', 'routers', value, ',', value, ';']),
  fc.constantFrom<Words>(
    ['option', 'domain-search', '"a.example"', ',', '"b.example"', ';'],
    ['option', 'interface-mtu', '1400', ';'],
    ['option', 'dhcp-client-identifier', '01:02:03:0a', ';'],
    ['option', 'static-routes', '203.0.113.1', '203.0.113.2', ',', '203.0.113.3', '203.0.113.4', ';'],
    ['option', 'dhcp-parameter-request-list', '1', ',', '3', ',', '6', ';'],
    ['option', 'ip-forwarding', 'false', ';'],
    ['option', 'time-servers', 'time.example.org', ';'],
    ['option', 'a-record', '203.0.113.1', '5', ';'],
    ['option', 'a-list', '1', ',', '2', ';'],
    ['option', 'space-of-mine.first', '"x"', ';'],
    ['deny', 'unknown-clients', ';'],
  ),
  data.map((value): Words => ['option', 'host-name', '=', ...value, ';']),
  data.map((value): Words => ['ddns-hostname', '=', ...value, ';']),
  data.map((value): Words => ['set', 'noted', '=', ...value, ';']),
  data.map((value): Words => ['append', 'domain-name', '=', ...value, ';']),
);

const action: fc.Arbitrary<Words> = fc.oneof(
  data.map((value): Words => ['log', '(', 'info', ',', ...value, ')', ';']),
  data.map((value): Words => ['set', 'noted', '=', ...value, ';']),
  fc.constant<Words>(['unset', 'noted', ';']),
  text.map((value): Words => ['option', 'domain-name', value, ';']),
);
const actions = fc.array(action, { maxLength: 2 }).map((list): Words => list.flat());

const conditional: fc.Arbitrary<Words> = fc.oneof(
  fc
    .tuple(condition, actions, condition, actions, actions)
    .map(([first, then, second, instead, otherwise]): Words => [
      ...['if', ...first, '{', ...then, '}'],
      ...['elsif', ...second, '{', ...instead, '}'],
      ...['else', '{', ...otherwise, '}'],
    ]),
  fc.tuple(condition, actions).map(([when, then]): Words => ['if', ...when, '{', ...then, '}']),
  actions.map((list): Words => ['on', 'commit', 'or', 'expiry', '{', ...list, '}']),
  actions.map((list): Words => [
    ...['switch', '(', 'option', 'vendor-class-identifier', ')', '{'],
    ...['case', '"a"', ':', ...list, 'break', ';', 'default', ':', 'set', 'noted', '=', '"x"', ';', '}'],
  ]),
);

const parameters = fc
  .array(fc.oneof({ weight: 4, arbitrary: parameter }, conditional), { maxLength: 3 })
  .map((list): Words => list.flat());

/** Definitions that stand before everything, because what follows uses them. */
const definitions: Words = [
  ...['option', 'a-record', 'code', '200', '=', '{', 'ip-address', ',', 'integer', '8', '}', ';'],
  ...['option', 'a-list', 'code', '201', '=', 'array', 'of', 'unsigned', 'integer', '8', ';'],
  ...[
    'option',
    'space',
    'space-of-mine',
    ';',
    'option',
    'space-of-mine.first',
    'code',
    '1',
    '=',
    'text',
    ';',
  ],
  ...[
    'class',
    '"one"',
    '{',
    'match',
    'if',
    'option',
    'host-name',
    '=',
    '"x"',
    ';',
    'lease',
    'limit',
    '4',
    ';',
    '}',
  ],
  ...['class', '"two"', '{', 'match', 'hardware', ';', '}'],
  ...['subclass', '"two"', '1:02:03:04:05:06:0a', ';'],
  ...['subclass', '"two"', '1:02:03:04:05:06:0b', '{', 'option', 'domain-name', '"x"', ';', '}'],
  ...['key', 'a-key', '{', 'algorithm', 'hmac-md5', ';', 'secret', 'pRP5FapFoJ95JEL06sv4PQ==', ';', '}', ';'],
  ...['zone', 'example.org.', '{', 'primary', '127.0.0.1', ';', 'key', 'a-key', ';', '}'],
];

type Numbered = (number: number) => Words;

const host: fc.Arbitrary<Numbered> = parameters.map((inner) => (number) => [
  ...['host', `h${String(number)}.example`, '{', 'hardware', 'ethernet', `2:0:0:0:${String(number)}:aB`, ';'],
  ...[...inner, '}'],
]);

const permit = fc.constantFrom<Words>(
  ['allow', 'members', 'of', '"one"', ';'],
  ['deny', 'unknown', 'clients', ';'],
  ['allow', 'known-clients', ';'],
  ['deny', 'dynamic', 'bootp', 'clients', ';'],
  ['allow', 'after', '3', '2025/01/01', '00:00:00', ';'],
);

const subnet: fc.Arbitrary<Numbered> = fc
  .tuple(parameters, permit, parameters)
  .map(([inner, permitted, inPool]) => (number) => {
    const net = `198.18.${String(number)}`;
    return [
      ...['subnet', `${net}.0`, 'netmask', '255.255.255.0', '{', ...inner],
      ...['range', `${net}.10`, `${net}.20`, ';', 'range', 'dynamic-bootp', `${net}.30`, ';'],
      ...['pool', '{', ...permitted, 'range', `${net}.40`, `${net}.49`, ';', ...inPool, '}', '}'],
    ];
  });

const declaration: fc.Arbitrary<Numbered> = fc.oneof(
  host,
  subnet,
  fc
    .tuple(parameters, subnet)
    .map(([inner, one]): Numbered => (number) => [
      ...['shared-network', `net-${String(number)}`, '{', ...inner, ...one(number), '}'],
    ]),
  fc
    .tuple(parameters, host)
    .map(([inner, one]): Numbered => (number) => [...['group', '{', ...inner, ...one(number), '}']]),
);

/** Configurations that dhcpd accepts, as words. */
export const configurations: fc.Arbitrary<Words> = fc
  .tuple(parameters, fc.array(declaration, { minLength: 1, maxLength: 4 }), fc.boolean())
  .map(([before, declarations, authoritative]) => [
    ...(authoritative ? ['authoritative', ';'] : ['not', 'authoritative', ';']),
    ...['allow', 'booting', ';', 'ignore', 'declines', ';'],
    ...definitions,
    ...before,
    ...declarations.flatMap((numbered, index) => numbered(index + 1)),
  ]);

/** What may stand between two words. */
export const gaps = fc.constantFrom(
  ' ',
  ' ',
  '\n',
  '\t',
  '\r\n',
  ' # it’s; a { comment }\n',
  '\n# "said"\n#\n',
);

/** A text of the words, with gaps between them by turns. */
export function written(words: Words, between: readonly string[]): string {
  return words.map((word, index) => `${word}${between[index % between.length] ?? ' '}`).join('');
}
