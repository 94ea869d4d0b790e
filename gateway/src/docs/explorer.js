'use strict'

const by = (id) => document.getElementById(id)

// Texts are never taken for markup.
const make = (name, text, properties = {}) => {
  const element = document.createElement(name)
  if (text !== undefined) element.textContent = text
  return Object.assign(element, properties)
}

const verbs = ['get', 'post', 'put', 'patch', 'delete']
let calls = []
let whole = {}

const resolve = (schema) => {
  let at = schema
  for (let depth = 0; at && at.$ref && depth < 8; depth += 1) {
    at = at.$ref.slice(2).split('/').reduce((part, name) => part && part[name.replaceAll('~1', '/').replaceAll('~0', '~')], whole)
  }
  return at || {}
}

const body = (call) => {
  const content = (call.operation.requestBody || {}).content || {}
  return resolve((content['application/json'] || {}).schema)
}

const list = () => {
  const words = by('search').value.toLowerCase().split(/\s+/).filter(Boolean)
  const found = calls.filter((call) => words.every((word) => call.text.includes(word)))
  by('count').textContent = `${found.length} of ${calls.length} calls`
  by('calls').replaceChildren(...found.slice(0, 300).map((call) => {
    const item = make('li')
    const button = make('button', undefined, { type: 'button' })
    button.append(make('b', call.verb.toUpperCase(), { className: 'verb' }), call.path)
    button.addEventListener('click', () => show(call))
    item.append(button)
    return item
  }))
}

const row = (name, schema, required, about) => {
  const line = make('tr')
  const kind = [schema.type, schema.format, schema.enum && schema.enum.join(' | ')].flat().filter(Boolean).join(', ')
  line.append(make('th', name + (required ? ' *' : '')), make('td', kind), make('td', about || schema.description || ''))
  return line
}

const send = async (call, fields, text, output) => {
  const query = new URLSearchParams()
  let path = call.path
  for (const { parameter, input } of fields) {
    if (parameter.in === 'path') path = path.replace(`{${parameter.name}}`, encodeURIComponent(input.value))
    else if (input.value !== '') query.set(parameter.name, input.value)
  }
  const headers = {}
  const token = by('token').value.trim()
  if (token) headers.Authorization = `PVEAPIToken=${token}`
  const options = { method: call.verb.toUpperCase(), headers, credentials: 'same-origin', cache: 'no-store' }
  if (text && text.value.trim()) {
    options.body = text.value
    headers['Content-Type'] = 'application/json'
  }
  const target = query.size ? `${path}?${query}` : path
  output.textContent = '…'
  try {
    const answer = await fetch(target, options)
    const content = await answer.text()
    let shown = content
    try { shown = JSON.stringify(JSON.parse(content), null, 2) } catch { /* it is no JSON, and shown as it is */ }
    output.textContent = `${answer.status} ${answer.statusText}\n\n${shown}`
  } catch (error) {
    output.textContent = String(error)
  }
}

const show = (call) => {
  const { operation } = call
  const article = by('call')
  article.replaceChildren(make('h2', `${call.verb.toUpperCase()} ${call.path}`))
  for (const text of [operation.summary, operation.description]) if (text) article.append(make('p', text))
  const form = make('form')
  const fields = call.parameters.map((parameter) => {
    const label = make('label', `${parameter.name}${parameter.required ? ' *' : ''} (${parameter.in})`)
    const input = make('input', undefined, { required: Boolean(parameter.required), title: parameter.description || '' })
    label.append(input)
    form.append(label)
    return { parameter, input }
  })
  const schema = body(call)
  const members = Object.entries(schema.properties || {})
  let text
  if (members.length || operation.requestBody) {
    const table = make('table')
    const required = new Set(schema.required || [])
    table.append(...members.map(([name, member]) => row(name, resolve(member), required.has(name), member.description)))
    text = make('textarea', undefined, { value: '{}', spellcheck: false, ariaLabel: 'body' })
    form.append(make('h3', 'Body'), text, table)
  }
  const output = make('pre')
  const button = make('button', 'Send')
  form.prepend(button)
  form.addEventListener('submit', (event) => {
    event.preventDefault()
    const changes = call.verb !== 'get'
    if (changes && !confirm(`Send ${call.verb.toUpperCase()} ${call.path}?`)) return
    send(call, fields, text, output)
  })
  article.append(form, make('h3', 'Answer'), output)
}

const load = async () => {
  const answer = await fetch('/api2/json/openapi.json')
  whole = await answer.json()
  for (const [path, item] of Object.entries(whole.paths)) {
    for (const verb of verbs.filter((verb) => item[verb])) {
      const operation = item[verb]
      const parameters = [...(item.parameters || []), ...(operation.parameters || [])].map(resolve)
      const text = `${verb} ${path} ${operation.summary || ''} ${operation.description || ''}`.toLowerCase()
      calls.push({ verb, path, operation, parameters, text })
    }
  }
  list()
}

by('search').addEventListener('input', list)
by('login').addEventListener('submit', (event) => event.preventDefault())
load().catch((error) => { by('count').textContent = String(error) })
