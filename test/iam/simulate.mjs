// Judges requests with @cloud-copilot/iam-simulate, an IAM policy evaluator that
// shares no code with this project. It reads {policies, identities, requests} on
// stdin and writes one answer a request on stdout. See simulator_test.go.
import { text } from 'node:stream/consumers'
import { createValidatedPolicy, validateResourcePolicy } from '@cloud-copilot/iam-policy'
import { allowedContextKeysForRequest, runSimulation, runUnsafeSimulation } from '@cloud-copilot/iam-simulate'

const encryptionContext = 'kms:encryptioncontext:'

// keysOf finds the context keys that an action carries, in small letters.
const known = new Map()
async function keysOf(action, resource) {
  if (!known.has(action)) {
    known.set(action, new Set(await allowedContextKeysForRequest(...action.split(':'), resource, false)))
  }
  return known.get(action)
}

// level is what an organization attaches at one level: the named policies, and, where none
// of them is a list of what is allowed, the service control policy that allows everything.
function level(names, organization) {
  // Go writes "*" as {"AWS": "*"}, which only other policies may have.
  const policies = names.map(name => ({
    name, policy: { ...organization[name], Statement: organization[name].Statement.map(s => ({ ...s, ...(s.Principal && { Principal: '*' }) })) },
  }))
  if (!policies.some(p => p.policy.Statement.some(s => s.Effect === 'Allow' || s.Principal))) {
    policies.push({ name: 'FullAWSAccess', policy: { Version: '2012-10-17', Statement: [{ Effect: 'Allow', Action: '*', Resource: '*' }] } })
  }
  return [{ orgIdentifier: 'r-root', policies }]
}

async function judge({ policies, identities, organization, key, account }, { policy, principal, identity, scps, rcps, action, resource = key, context }) {
  const simulation = {
    request: { principal, action, resource: { resource, accountId: account }, contextVariables: context },
    identityPolicies: identity ? [{ name: identity, policy: identities[identity] }] : [],
    serviceControlPolicies: scps ? level(scps, organization) : [],
    resourceControlPolicies: rcps ? level(rcps, organization) : [],
    ...(policy && { resourcePolicy: policies[policy] }),
  }
  // The checked run refuses policies and actions that IAM would refuse.
  const checked = await runSimulation(simulation, { simulationMode: 'Strict' })
  if (checked.resultType !== 'single') {
    return { error: JSON.stringify(checked.errors ?? checked.resultType) }
  }
  // It also drops context keys that the action does not carry, which is right,
  // and every kms:EncryptionContext:<key>, which is not: it recognizes a variable
  // part only after a slash. The unchecked run takes the context as it is, so it
  // gets what the action carries, the encryption context included.
  const dropped = checked.result.ignoredContextKeys
  const carried = await keysOf(action, resource)
  const hasContext = carried.has(encryptionContext + '${encryptioncontextkey}')
  const lost = dropped.filter(k => hasContext && k.toLowerCase().startsWith(encryptionContext))
  if (lost.length === 0) {
    return { result: checked.overallResult, used: Object.keys(context).filter(k => !dropped.includes(k)) }
  }
  const rest = Object.entries(context).filter(([k]) => lost.includes(k) || !dropped.includes(k))
  simulation.request.contextVariables = Object.fromEntries(rest)
  // The checked run adds by itself the one resource control policy that allows something.
  for (const { policies } of simulation.resourceControlPolicies) {
    policies.push({ name: 'RCPFullAWSAccess', policy: { Version: '2012-10-17', Statement: [{ Effect: 'Allow', Principal: '*', Action: '*', Resource: '*' }] } })
  }
  return { result: runUnsafeSimulation(simulation, {}), used: rest.map(([k]) => k) }
}

const input = JSON.parse(await text(process.stdin))
for (const [name, policy] of Object.entries(input.policies)) {
  // Validated once here instead of at each request. The name is not for looks:
  // the unchecked run breaks on a resource policy that has none.
  input.policies[name] = createValidatedPolicy(policy, validateResourcePolicy, { name })
}
const answers = []
for (const request of input.requests) {
  answers.push(await judge(input, request))
}
process.stdout.write(JSON.stringify(answers))
