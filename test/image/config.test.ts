import { describe, expect, it } from 'vitest';

import {
  configBlob,
  describe as describeBlob,
  indexBlob,
  indexType,
  layerType,
  manifestBlob,
  ociPlatform,
  rfc3339,
} from '../../build/image/config.js';
import type { ImageConfig } from '../../build/image/engine.js';
import { architectures } from '../../build/support/architecture.js';
import { ToolError } from '../../build/support/errors.js';
import { sampleConfig } from '../support/plan.js';

const bare: ImageConfig = {
  architecture: 'x86_64',
  created: 0,
  user: '',
  entrypoint: [],
  command: [],
  environment: [],
  exposedPorts: [],
  volumes: [],
  workingDirectory: '',
  stopSignal: '',
  annotations: new Map(),
};

describe('configBlob', () => {
  it('leaves out what is empty', () => {
    expect(configBlob(bare, 'sha256:00').toString()).toBe(
      '{"created":"1970-01-01T00:00:00Z","architecture":"amd64","os":"linux","config":{},' +
        '"rootfs":{"type":"layers","diff_ids":["sha256:00"]},' +
        '"history":[{"created":"1970-01-01T00:00:00Z","created_by":"dhcpd-scratch"}]}',
    );
  });

  it('writes fields in the order of the specification, maps sorted by bytes, and Go escapes', () => {
    const config: ImageConfig = {
      ...bare,
      architecture: 'armv7l',
      created: 1_700_000_000,
      user: '177:177',
      entrypoint: ['/usr/sbin/dhcpd', '-f'],
      command: ['a<b>&c\u2028'],
      environment: ['B=1', 'A=2'],
      exposedPorts: ['67/udp', '547/udp'],
      volumes: ['/var/lib/dhcp'],
      workingDirectory: '/',
      stopSignal: 'SIGTERM',
      annotations: new Map([
        ['b', '1'],
        ['B', '2'],
        ['é', '3'],
        ['a', '4'],
      ]),
    };
    expect(configBlob(config, 'sha256:11').toString()).toBe(
      '{"created":"2023-11-14T22:13:20Z","architecture":"arm","os":"linux","variant":"v7","config":{"User":"177:177",' +
        '"ExposedPorts":{"547/udp":{},"67/udp":{}},"Env":["B=1","A=2"],"Entrypoint":["/usr/sbin/dhcpd","-f"],' +
        '"Cmd":["a\\u003cb\\u003e\\u0026c\\u2028"],"Volumes":{"/var/lib/dhcp":{}},"WorkingDir":"/",' +
        '"Labels":{"B":"2","a":"4","b":"1","é":"3"},"StopSignal":"SIGTERM"},' +
        '"rootfs":{"type":"layers","diff_ids":["sha256:11"]},' +
        '"history":[{"created":"2023-11-14T22:13:20Z","created_by":"dhcpd-scratch"}]}',
    );
  });

  it('does not depend on the order of sets and maps', () => {
    const config = sampleConfig('x86_64');
    const turned: ImageConfig = {
      ...config,
      exposedPorts: [...config.exposedPorts].reverse(),
      volumes: [...config.volumes].reverse(),
      annotations: new Map([...config.annotations].reverse()),
    };
    expect(configBlob(turned, 'sha256:22').equals(configBlob(config, 'sha256:22'))).toBe(true);
  });
});

describe('manifestBlob and indexBlob', () => {
  const config = describeBlob('application/vnd.oci.image.config.v1+json', Buffer.from('{}'));
  const layer = describeBlob(layerType('zstd'), Buffer.alloc(0));

  it('write descriptors in the order of the specification', () => {
    expect(manifestBlob(config, layer, new Map([['org.opencontainers.image.title', 't']])).toString()).toBe(
      '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",' +
        '"config":{"mediaType":"application/vnd.oci.image.config.v1+json",' +
        '"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},' +
        '"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+zstd",' +
        '"digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":0}],' +
        '"annotations":{"org.opencontainers.image.title":"t"}}',
    );
    const manifest = describeBlob('m', Buffer.from('{}'), { platform: ociPlatform('aarch64') });
    expect(indexBlob([manifest], new Map()).toString()).toBe(
      `{"schemaVersion":2,"mediaType":"${indexType}","manifests":[{"mediaType":"m",` +
        '"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2,' +
        '"platform":{"architecture":"arm64","os":"linux","variant":"v8"}}]}',
    );
  });

  it('know the media types of layers', () => {
    expect([layerType('none'), layerType('gzip')]).toEqual([
      'application/vnd.oci.image.layer.v1.tar',
      'application/vnd.oci.image.layer.v1.tar+gzip',
    ]);
  });
});

describe('ociPlatform', () => {
  it('speaks of every architecture in the words of Go', () => {
    const said = architectures.map((name) => {
      const { architecture, variant } = ociPlatform(name);
      return variant === undefined ? architecture : `${architecture}/${variant}`;
    });
    expect(said).toEqual(['amd64', 'arm64/v8', '386', 'arm/v7', 'ppc64le', 'riscv64', 's390x']);
  });
});

describe('rfc3339', () => {
  it('writes whole seconds in UTC', () => {
    expect(rfc3339(951_782_399)).toBe('2000-02-28T23:59:59Z');
    expect(rfc3339(253_402_300_799)).toBe('9999-12-31T23:59:59Z');
  });

  it.each([-1, 0.5, Number.NaN, Infinity, 253_402_300_800])('refuses %d', (seconds) => {
    expect(() => rfc3339(seconds)).toThrow(ToolError);
  });
});
