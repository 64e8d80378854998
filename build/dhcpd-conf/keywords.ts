/**
 * Words that begin a statement and that no valid statement holds after a complete value: where one follows a value, the
 * semicolon between them is missing. Words that values may hold as well, such as `hardware` in an expression, are here
 * too, because an operator stands before them there. From dhcpd.conf(5) and dhcp-eval(5); not every statement has to
 * be here.
 */
const statements: ReadonlySet<string> = new Set(
  `abandon-lease-time adaptive-lease-time-threshold add algorithm allow always-broadcast always-reply-rfc1048 append
  authoritative boot-unknown-clients break case check-secs-byte-order class ddns-domainname ddns-hostname
  ddns-rev-domainname ddns-ttl ddns-update-style ddns-updates default default-lease-time define deny dhcp-cache-threshold
  do-forward-updates do-reverse-updates dynamic-bootp-lease-cutoff dynamic-bootp-lease-length echo-client-id elsif
  eval execute failover filename fixed-address get-lease-hostnames group hardware host if ignore
  ignore-client-uids include infinite-is-reserved key lease lease-file-name lease-id-format limited-broadcast-address
  local-address local-port log log-facility log-threshold-high log-threshold-low match max-ack-delay
  max-lease-time min-lease-time min-secs next-server omapi-key omapi-port one-lease-per-client option parse-vendor-option
  persist-eui-64-leases pid-file-name ping-check ping-timeout ping-timeout-ms pool pool6 prepend primary range
  range6 release-on-roam remote-port return secret secondary send server-id-check server-identifier
  server-name set shared-network site-option-space spawn stash-agent-options subclass subnet subnet6 supersede switch
  unset update-conflict-detection update-optimization update-static-leases use-host-decl-names
  use-lease-addr-for-default-route user-class vendor-class vendor-option-space zone`.split(/\s+/),
);

/** The statements inside `failover peer "NAME" { ... }`. */
const failoverStatements: ReadonlySet<string> = new Set(
  `address hba load max-balance max-lease-misbalance max-lease-ownership max-response-delay max-unacked-updates mclt
  min-balance peer port primary secondary split auto-partner-down`.split(/\s+/),
);

/** Statements that are complete with their first word. */
const alone: ReadonlySet<string> = new Set(['authoritative', 'break', 'primary', 'secondary']);

/** Words inside of a statement after which a value, or a name, follows: what comes next begins no statement. */
const leading: ReadonlySet<string> = new Set(
  `and config-option defined encapsulate exists if not of option or space with`.split(' '),
);

/** Statements that always have a block. */
const withBlock: ReadonlySet<string> = new Set(
  `subnet subnet6 shared-network host pool pool6 class vendor-class user-class zone if elsif else switch on
  define`.split(/\s+/),
);

/** Statements that may have a block. */
const mayHaveBlock: ReadonlySet<string> = new Set([
  ...withBlock,
  'group',
  'subclass',
  'failover',
  'key',
  'lease',
]);

/** Which words begin a statement in a block of this kind. @param block first word of the block's head */
export function beginsStatement(word: string, block: string): boolean {
  return (block === 'failover' ? failoverStatements : statements).has(word);
}

export function standsAlone(word: string): boolean {
  return alone.has(word);
}

export function leadsToValue(word: string): boolean {
  return leading.has(word);
}

export function needsBlock(word: string): boolean {
  return withBlock.has(word);
}

/** Whether `word ... {` can be right. Words that are not known here may be anything. */
export function takesBlock(word: string): boolean {
  return mayHaveBlock.has(word) || !(statements.has(word) || failoverStatements.has(word));
}

/** For each block the declarations that dhcpd refuses directly in it. */
const refused = new Map([
  ['subnet', /^(?:subnet6?|shared-network)$/],
  ['shared-network', /^(?:shared-network|range)$/],
  ['pool', /^pool6?$/],
  ['host', /^(?:subnet6?|shared-network|pool6?|host|range)$/],
  ['class', /^(?:subnet6?|shared-network|pool6?|host|range|class|subclass|group)$/],
]);

/** Whether a declaration may stand in a block. @param block first word of the block's head, '' for none */
export function canHold(block: string, declaration: string): boolean {
  return refused.get(block)?.test(declaration) !== true;
}
