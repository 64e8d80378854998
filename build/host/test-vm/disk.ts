import { rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { $ } from 'zx';
import { replayLog, type Unflushed } from './write-log.js';

/** Of the log of one boot; it takes only the room of what is written to it. */
const logSize = 64 * 1024 ** 3;

/**
 * The disk of one machine, with a write cache as real disks have it. While the machine runs, everything goes into an
 * overlay and into a log. When the power is cut the overlay is thrown away, and of the log so much is brought to the
 * disk as a real one would still have: all that the guest has flushed, and a part of the rest.
 */
export class Disk {
  readonly #file: string;
  readonly #overlay: string;
  readonly #log: string;
  /** 0 to 1; decides what an interrupted disk still writes. */
  readonly #random: () => number;

  private constructor(directory: string, random: () => number) {
    this.#file = join(directory, 'disk');
    this.#overlay = join(directory, 'overlay.qcow2');
    this.#log = join(directory, 'writes');
    this.#random = random;
  }

  /** A private copy of an image, in an existing directory. */
  static async copy(image: string, directory: string, random: () => number): Promise<Disk> {
    const disk = new Disk(directory, random);
    await $({ quiet: true })`cp --sparse=always --reflink=auto ${image} ${disk.#file}`;
    return disk;
  }

  /** Before every boot. @returns arguments of the emulator */
  async attach(): Promise<readonly string[]> {
    await rm(this.#log, { force: true });
    await writeFile(this.#log, '');
    await truncate(this.#log, logSize);
    const backing = ['-f', 'qcow2', '-F', 'raw', '-b', this.#file];
    await $({ quiet: true })`qemu-img create -q ${backing} ${this.#overlay}`;
    const overlay = 'driver=qcow2,file.driver=file,discard=unmap';
    return [
      ...['-blockdev', `${overlay},node-name=overlay,file.filename=${this.#overlay}`],
      ...['-blockdev', `driver=file,node-name=log,filename=${this.#log}`],
      ...['-blockdev', 'driver=blklogwrites,node-name=root,file=overlay,log=log'],
      ...['-device', 'virtio-blk-pci,drive=root,write-cache=on'],
    ];
  }

  /** After the emulator has ended, whichever way. */
  async settle(): Promise<Unflushed> {
    const unflushed = await replayLog(this.#log, this.#file, () => this.#random() < 0.5);
    for (const path of [this.#log, this.#overlay]) await rm(path, { force: true });
    return unflushed;
  }
}
