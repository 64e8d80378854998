import type { createLogUpdate } from 'log-update';

import { formatBytes } from './format.js';

/** What a live line needs of a stream; `process.stderr` has it. */
export type TerminalStream = NodeJS.WritableStream & {
  readonly isTTY?: boolean;
  readonly columns?: number;
  readonly rows?: number;
};

/** Counts of one transfer or of all of them. */
export interface Transferred {
  readonly label: string;
  readonly total: number | undefined;
  /** Bytes so far. */
  bytes: number;
}

const redrawInterval = 100;
/** The rate is that of the last seconds. */
const rateWindow = 3000;
const barWidth = 20;

/** One line at the bottom of the terminal over all running transfers, redrawn ten times a second at most. */
export class LiveLine {
  readonly #stream: TerminalStream;
  readonly #active = new Set<Transferred>();
  #done: Transferred[] = [];
  #samples: { readonly time: number; readonly bytes: number }[] = [];
  #timer: NodeJS.Timeout | undefined;
  #update: ReturnType<typeof createLogUpdate> | undefined;

  constructor(stream: TerminalStream) {
    this.#stream = stream;
  }

  add(transfer: Transferred): void {
    this.#active.add(transfer);
    if (this.#timer !== undefined) return;
    this.#samples = [{ time: performance.now(), bytes: 0 }];
    // A step that is over sooner than the first drawing shows nothing.
    this.#timer = setInterval(() => {
      void this.#draw();
    }, redrawInterval);
    this.#timer.unref();
  }

  finish(transfer: Transferred, succeeded: boolean): void {
    this.#active.delete(transfer);
    if (succeeded) this.#done.push(transfer);
    if (this.#active.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#done = [];
    this.#samples = [];
    this.#update?.clear();
  }

  /** Writes a line that stays, above the live one. */
  print(line: string): void {
    this.#update?.clear();
    this.#stream.write(line);
    if (this.#timer !== undefined && this.#update !== undefined) void this.#draw();
  }

  async #draw(): Promise<void> {
    if (this.#update === undefined) {
      const logUpdate = await import('log-update');
      this.#update ??= logUpdate.createLogUpdate(withHeight(this.#stream), { showCursor: true });
    }
    if (this.#timer !== undefined) this.#update(this.#text(performance.now()));
  }

  #text(now: number): string {
    const all = [...this.#done, ...this.#active];
    const bytes = sum(all.map((transfer) => transfer.bytes));
    const total = sum(all.map((transfer) => transfer.total ?? transfer.bytes));
    this.#samples = [...this.#samples.filter(({ time }) => now - time < rateWindow), { time: now, bytes }];
    const first = this.#samples[0] ?? { time: now, bytes };
    const rate = now > first.time ? Math.max(0, ((bytes - first.bytes) * 1000) / (now - first.time)) : 0;
    const filled = total > 0 ? Math.min(barWidth, Math.floor((bytes / total) * barWidth)) : 0;
    const labels = [...this.#active]
      .filter((transfer) => transfer.bytes > 0)
      .map((transfer) => transfer.label);
    const parts = [
      `[${'#'.repeat(filled)}${'.'.repeat(barWidth - filled)}]`,
      `${this.#done.length} of ${all.length} ${all.length === 1 ? 'file' : 'files'}`,
      `${formatBytes(bytes)} of ${formatBytes(total)}`,
      ...(bytes > 0 ? [`${formatBytes(rate)}/s`] : []),
      labels.join(', '),
    ];
    const width = (this.#stream.columns ?? 80) - 1;
    const line = parts.join('  ').trimEnd();
    return line.length <= width ? line : `${line.slice(0, Math.max(0, width - 3))}...`;
  }
}

/** A terminal whose size nobody has set says that it has no rows; nothing would be drawn on it. */
function withHeight(stream: TerminalStream): TerminalStream {
  if (stream.rows !== 0) return stream;
  return new Proxy(stream, {
    get: (target, name) => {
      if (name === 'rows') return 24;
      const value: unknown = Reflect.get(target, name);
      return typeof value === 'function' ? (value.bind(target) as unknown) : value;
    },
  });
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
