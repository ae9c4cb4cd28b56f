// Metadata as what it is: numbers, tables, markdown, links, pictures. Nothing of it is ever code.

import MarkdownIt from "markdown-it";
import type { ComponentChildren } from "preact";
import { useMemo, useState } from "preact/hooks";
import { formatNumber } from "./format";

const MOST_ROWS = 100;
const MOST_COLUMNS = 30;
const MOST_TEXT = 4_000;
const LINK = /^(https?:\/\/|mailto:)[^\s]+$/i;
const IMAGE = /^data:image\/(png|jpeg|gif|webp|svg\+xml)[;,]/i;

const markdown = new MarkdownIt({ html: false, linkify: true });
markdown.validateLink = (url) => LINK.test(url.trim()) || IMAGE.test(url.trim());
// The page loads nothing: a picture that is elsewhere becomes a link.
markdown.renderer.rules.image = (tokens, index) => {
  const token = tokens[index];
  const source = String(token.attrGet("src") ?? "");
  const text = markdown.utils.escapeHtml(token.content || source);
  const address = markdown.utils.escapeHtml(source);
  return IMAGE.test(source)
    ? `<img src="${address}" alt="${text}">`
    : `<a href="${address}" target="_blank" rel="noopener noreferrer">${text}</a>`;
};
markdown.renderer.rules.link_open = (tokens, index, options, _env, self) => {
  tokens[index].attrSet("target", "_blank");
  tokens[index].attrSet("rel", "noopener noreferrer");
  return self.renderToken(tokens, index, options);
};

type Fields = Record<string, unknown>;

/** The metadata of an output, given as the text of a JSON object. */
export function Metadata({ text }: { text: string }) {
  const value = useMemo(() => parse(text), [text]);
  if (!isFields(value)) return <pre>{text}</pre>;
  return (
    <dl class="metadata">
      {Object.entries(value).map(([name, one]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>
            <Value value={one} name={name} />
          </dd>
        </div>
      ))}
    </dl>
  );
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

function isFields(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

export function Value({ value, name }: { value: unknown; name: string }): ComponentChildren {
  if (typeof value === "number") return <span class="number">{formatNumber(value)}</span>;
  if (typeof value === "boolean" || value === null) return <code>{String(value)}</code>;
  if (typeof value === "string") return <Text text={value} name={name} />;
  if (Array.isArray(value)) return <Sequence values={value} name={name} />;
  if (isFields(value)) return <Mapping fields={value} name={name} />;
  return null;
}

function Text({ text, name }: { text: string; name: string }) {
  const [isWhole, showWhole] = useState(false);
  if (IMAGE.test(text)) return <img src={text} alt={name} />;
  if (LINK.test(text)) return <Link address={text} />;
  const shown = isWhole || text.length <= MOST_TEXT ? text : `${text.slice(0, MOST_TEXT)}…`;
  return (
    <>
      {text.includes("\n") ? <pre>{shown}</pre> : <span class="text">{shown}</span>}
      {shown !== text && (
        <button type="button" class="link" onClick={() => showWhole(true)}>
          Show all {formatNumber(text.length)} characters
        </button>
      )}
    </>
  );
}

function Link({ address, text }: { address: string; text?: string }) {
  return (
    <a href={address} target="_blank" rel="noopener noreferrer">
      {text || address}
    </a>
  );
}

/** An object with one of the keys `markdown`, `url`, `image` or `table` alone is shown as that; others as a list. */
function Mapping({ fields, name }: { fields: Fields; name: string }) {
  const keys = Object.keys(fields).join();
  if (keys === "markdown" && typeof fields.markdown === "string") return <Markdown text={fields.markdown} />;
  if (keys === "image" && typeof fields.image === "string") return <Text text={fields.image} name={name} />;
  if (keys === "table" && Array.isArray(fields.table)) return <Sequence values={fields.table} name={name} />;
  if (typeof fields.url === "string" && LINK.test(fields.url) && (keys === "url" || keys === "url,text")) {
    return <Link address={fields.url} text={fields.text === undefined ? undefined : String(fields.text)} />;
  }
  if (!keys) return <code>{"{}"}</code>;
  return (
    <dl class="metadata">
      {Object.entries(fields).map(([key, value]) => (
        <div key={key}>
          <dt>{key}</dt>
          <dd>
            <Value value={value} name={key} />
          </dd>
        </div>
      ))}
    </dl>
  );
}

function Markdown({ text }: { text: string }) {
  const html = useMemo(() => markdown.render(text), [text]);
  return <div class="markdown" dangerouslySetInnerHTML={{ __html: html }} />;
}

function Sequence({ values, name }: { values: unknown[]; name: string }) {
  if (!values.length) return <code>[]</code>;
  if (values.every(isFields)) return <Table rows={values as Fields[]} name={name} />;
  if (values.every((one) => typeof one !== "object") && values.length <= 20) {
    return (
      <span class="text">
        {values.map((one) => (typeof one === "number" ? formatNumber(one) : String(one))).join(", ")}
      </span>
    );
  }
  return (
    <>
      <ol class="values" start={0}>
        {values.slice(0, MOST_ROWS).map((value, index) => (
          <li key={index}>
            <Value value={value} name={`${name} ${index}`} />
          </li>
        ))}
      </ol>
      <Rest shown={MOST_ROWS} all={values.length} word="values" />
    </>
  );
}

function Table({ rows, name }: { rows: Fields[]; name: string }) {
  const columns = [...new Set(rows.slice(0, MOST_ROWS).flatMap(Object.keys))];
  const shown = columns.slice(0, MOST_COLUMNS);
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label={name}>
      <table>
        <thead>
          <tr>
            {shown.map((column) => (
              <th key={column} scope="col">
                {column}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.slice(0, MOST_ROWS).map((row, index) => (
            <tr key={index}>
              {shown.map((column) => (
                <td key={column} class={typeof row[column] === "number" ? "number" : ""}>
                  {row[column] === undefined ? "" : <Value value={row[column]} name={column} />}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
      <Rest shown={MOST_ROWS} all={rows.length} word="rows" />
      <Rest shown={MOST_COLUMNS} all={columns.length} word="columns" />
    </div>
  );
}

function Rest({ shown, all, word }: { shown: number; all: number; word: string }) {
  if (all <= shown) return null;
  return (
    <p class="note">
      The first {shown} of {formatNumber(all)} {word}.
    </p>
  );
}
