import { XmlReader } from './xml.js';

/** One element of a small document. */
export interface XmlElement {
  /** Without a prefix; the empty string for an element that was not asked for. */
  readonly name: string;
  readonly attributes: ReadonlyMap<string, string>;
  readonly children: readonly XmlElement[];
  /** Character data of the element itself, trimmed. */
  readonly text: string;
}

/** A metalink of today has two thousand. */
const mostElements = 50_000;

/**
 * Reads a small document whole.
 *
 * @param names of the elements and attributes that are wanted
 * @throws Error that says what is wrong with the document
 */
export function readXmlTree(document: Uint8Array, names: readonly string[]): XmlElement {
  const root = {
    name: '',
    attributes: new Map<string, string>(),
    children: new Array<XmlElement>(),
    text: '',
  };
  const open = [root];
  let count = 0;
  const reader = new XmlReader({
    names,
    open: (name, tag) => {
      if (++count > mostElements) throw new Error(`it has more than ${mostElements} elements`);
      const attributes = new Map<string, string>();
      for (const attribute of names) {
        const value = tag.attribute(attribute);
        if (value !== undefined) attributes.set(attribute, value);
      }
      const element = { name, attributes, children: [], text: '' };
      open.at(-1)?.children.push(element);
      open.push(element);
      return true;
    },
    close: (_name, text) => {
      const element = open.pop();
      if (element !== undefined) element.text = text?.trim() ?? '';
    },
  });
  reader.write(document);
  reader.end();
  const [element] = root.children;
  if (element === undefined) throw new Error('it has no root element');
  return element;
}

/** The first child of a name. */
export function childOf(element: XmlElement | undefined, name: string): XmlElement | undefined {
  return element?.children.find((child) => child.name === name);
}

export function childrenOf(element: XmlElement | undefined, name: string): readonly XmlElement[] {
  return element?.children.filter((child) => child.name === name) ?? [];
}

/** A number of seconds or bytes as metadata has it, a fraction cut off. @returns undefined for any other text */
export function wholeNumber(text: string | undefined): number | undefined {
  const digits = /^([0-9]{1,15})(?:\.[0-9]+)?$/.exec(text ?? '')?.[1];
  return digits === undefined ? undefined : Number(digits);
}
