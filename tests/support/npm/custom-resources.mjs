// Checks custom resources against models made of their definitions: an array of objects comes as JSON on standard
// input, the folder of the packages as the argument. Prints a line for each mistake.
import { readFileSync } from 'node:fs'
import { pathToFileURL } from 'node:url'

const packages = pathToFileURL(`${process.argv[2]}/`)
const MODELS = {
  'gateway.networking.k8s.io': ['gateway-api', 'index.js'],
  'monitoring.coreos.com': ['prometheus-operator', 'index.js'],
  'networking.gke.io': ['gke', 'index.mjs'],
}

for (const object of JSON.parse(readFileSync(0))) {
  const [folder, file] = MODELS[object.apiVersion.split('/')[0]]
  const models = await import(new URL(`@kubernetes-models/${folder}/${object.apiVersion}/${file}`, packages))
  try {
    new models[object.kind](object).validate()
  } catch (error) {
    console.log(`${object.kind} ${object.metadata.name}: ${error.message}`)
  }
}
