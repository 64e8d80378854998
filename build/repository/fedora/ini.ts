/** One section of an INI file. */
export interface IniSection {
  readonly name: string;
  /** By name; a value's further lines are joined by line ends. Of equal names the last counts. */
  readonly options: ReadonlyMap<string, string>;
}

/**
 * Parses an INI file as dnf does: `name = value`, a line that begins with a blank continues the value before it, `#` and
 * `;` begin comments at the start of a line only.
 *
 * @param odd gets the number of each line that is none of these, and is left out
 */
export function parseIni(text: string, odd: (line: number) => void): readonly IniSection[] {
  const sections: { readonly name: string; readonly options: Map<string, string> }[] = [];
  let option: string | undefined;
  for (const [index, raw] of text
    .replace(/^\ufeff/, '')
    .split('\n')
    .entries()) {
    const line = raw.trimEnd();
    if (line === '' || /^[#;]/.test(line)) continue;
    const options = sections.at(-1)?.options;
    if (/^[ \t]/.test(line)) {
      if (options === undefined || option === undefined) odd(index + 1);
      else options.set(option, `${options.get(option) ?? ''}\n${line.trim()}`);
      continue;
    }
    option = undefined;
    const name = /^\[([^\]]+)\]$/.exec(line)?.[1];
    if (name !== undefined) {
      sections.push({ name, options: new Map() });
      continue;
    }
    const equals = line.indexOf('=');
    if (options === undefined || equals <= 0) {
      odd(index + 1);
      continue;
    }
    option = line.slice(0, equals).trim().toLowerCase();
    options.set(option, line.slice(equals + 1).trim());
  }
  return sections;
}
