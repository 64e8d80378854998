import { cannot } from '../support/errors.js';

const component = '[a-z0-9]+(?:(?:[.]|__?|-+)[a-z0-9]+)*';
const label = '[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?';
const host = `(?:${label}(?:[.]${label})*|\\[[0-9A-Fa-f:]+\\])`;
/** The grammar of container tools (distribution/reference): host with port, path, tag. */
const grammar = new RegExp(
  `^(?:(?<host>${host}(?::[0-9]{1,5})?)/)?(?<path>${component}(?:/${component})*)(?::(?<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?$`,
);
/** Of host and path together. */
const longestName = 255;

/**
 * Checks the name that an image is given and completes it as podman does: `localhost/` before one without a host,
 * `:latest` behind one without a tag.
 *
 * @throws ToolError with exit code 2
 */
export function imageReference(text: string): string {
  const groups = grammar.exec(text)?.groups;
  const wrong = (reason: string): Error =>
    cannot('use', `the reference ${JSON.stringify(text)}`, reason, {
      hint: 'give a name such as localhost/dhcpd:latest',
      exitCode: 2,
    });
  if (groups === undefined) {
    throw wrong(
      text.includes('@')
        ? 'a digest cannot be chosen'
        : 'it is not [HOST[:PORT]/]NAME[:TAG] with a name in lower case',
    );
  }
  const { host: first, path = '', tag = 'latest' } = groups;
  // As everywhere, what stands first is a host when it could not be a part of a path, or is localhost.
  const isHost = first !== undefined && (/[.:A-Z]/.test(first) || first === 'localhost');
  const name = isHost ? `${first}/${path}` : `localhost/${first === undefined ? '' : `${first}/`}${path}`;
  if (name.length > longestName) throw wrong(`its name is longer than ${longestName} characters`);
  return `${name}:${tag}`;
}
