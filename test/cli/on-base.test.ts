import { afterAll, describe, expect, it } from 'vitest';
import { Place } from '../support/cli.js';

const definition = `name: tiny-fedora
title: Tiny
from: registry.fedoraproject.org/fedora-minimal:45
packages:
  fedora: { release: 45, package: tiny, keys: [${'A'.repeat(40)}] }
roots: [tinyd]
user: { name: tiny, id: 201 }
`;

/** What is said before anything is pulled. */
describe('an image upon a base', () => {
  const place = new Place({ 'tiny.yaml': definition });
  afterAll(() => {
    place.remove();
  });

  it.each([
    [
      ['plan'],
      'cannot plan tiny-fedora: the package manager of registry.fedoraproject.org/fedora-minimal:45 chooses its files; build it, and see what is in it with npx dhcpd-scratch compare',
    ],
    [
      ['why', '/etc/passwd'],
      'cannot plan tiny-fedora: the package manager of registry.fedoraproject.org/fedora-minimal:45 chooses its files; build it, and see what is in it with npx dhcpd-scratch compare',
    ],
    [
      ['build', '--engine', 'oci'],
      'cannot build tiny-fedora: an image upon a base is made by buildah; leave --engine out',
    ],
    [
      ['build', '--offline'],
      'cannot build tiny-fedora: its packages are installed over the network; leave --offline out',
    ],
    [
      ['build', '--distro', 'debian'],
      'cannot build tiny-fedora: the definition names no Debian package; add debian under packages, or choose another family with --distro',
    ],
    [
      ['build', '--locked'],
      'cannot use tiny.lock.yaml: there is no such lock file; run npx dhcpd-scratch lock ./tiny.yaml',
    ],
    [['build', '--reference', 'A:B'], 'cannot '],
  ])('%j is refused', async ([command = '', ...options], message) => {
    const { code, stdout, stderr } = await place.run([command, ...options, './tiny.yaml']);
    expect([code, stdout]).toEqual([2, '']);
    expect(stderr.replaceAll(`${place.directory}/`, '')).toContain(`error: ${message}`);
    expect(stderr.trimEnd().split('\n')).toHaveLength(1);
  });
});
