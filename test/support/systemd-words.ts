/** Words of a command line as systemd would hand them to the program: quotes, escapes, specifiers and variables undone. */
export function unquote(line: string): readonly string[] {
  const words: string[] = [];
  let word: string | undefined;
  let quote = '';
  for (let index = 0; index < line.length; index += 1) {
    const character = line[index] ?? '';
    if (character === '\\') {
      const hex = /^\\x([0-9a-fA-F]{2})/.exec(line.slice(index));
      word =
        (word ?? '') +
        (hex === null ? (line[index + 1] ?? '') : String.fromCharCode(parseInt(hex[1] ?? '', 16)));
      index += hex === null ? 1 : 3;
    } else if (quote !== '') {
      if (character === quote) quote = '';
      else word = (word ?? '') + character;
    } else if (character === ' ') {
      if (word !== undefined) words.push(word);
      word = undefined;
    } else if (character === '"' || character === "'") {
      quote = character;
      word ??= '';
    } else word = (word ?? '') + character;
  }
  if (word !== undefined) words.push(word);
  return words.map((text) => text.replaceAll('%%', '%').replaceAll('$$', '$'));
}
