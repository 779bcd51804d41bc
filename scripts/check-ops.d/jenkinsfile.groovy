// Checks the Jenkinsfile against the grammar of Declarative Pipeline (https://www.jenkins.io/doc/book/pipeline/syntax/), which Groovy's
// parser does not know, and for the parts that a roll-out needs: its steps in order, each known to scripts/deploy, time limits, a lock, bound credentials, triggers,
// notifications.
//
// usage: jenkinsfile.groovy Jenkinsfile Makefile scripts/deploy SERVICE…
import org.codehaus.groovy.ast.expr.*
import org.codehaus.groovy.control.CompilationUnit
import org.codehaus.groovy.control.Phases

def unit = new CompilationUnit()
unit.addSource('Jenkinsfile', new File(args[0]).text)
unit.compile(Phases.CONVERSION)
def targets = new File(args[1]).readLines().findResults { (it =~ /^([a-z-]+):/).with { found -> found ? found.group(1) : null } } as Set
def commands = new File(args[2]).readLines().findResults { (it =~ /^([a-z-]+(?: \| [a-z-]+)*)\)/).with { found -> found ? found.group(1) : null } }.join(' ').split(/[ |]+/) as Set
def services = args[3..-1]

def complaints = []
// Returns for each call its name, its arguments and the calls inside its block.
def calls
calls = { statements ->
    statements.collect { statement ->
        def call = statement instanceof org.codehaus.groovy.ast.stmt.ExpressionStatement ? statement.expression : null
        if (!(call instanceof MethodCallExpression)) {
            // `environment` contains assignments.
            return [name: call instanceof BinaryExpression ? '=' : statement.text, line: statement.lineNumber, args: [], inside: []]
        }
        def given = call.arguments.expressions
        def block = given.find { it instanceof ClosureExpression }
        [name: call.methodAsString, line: statement.lineNumber, args: given.findAll { it != block },
         inside: block ? calls(block.code.statements) : []]
    }
}

def POST = 'always changed fixed regression aborted failure success unstable unsuccessful cleanup'
def STEPS = 'sh checkout withCredentials archiveArtifacts junit echo dir timeout retry lock mail slackSend deleteDir script'
def OPTIONS = 'buildDiscarder disableConcurrentBuilds disableResume lock retry skipDefaultCheckout timeout timestamps'
def CONDITIONS = 'allOf anyOf not branch buildingTag changeset environment equals expression tag triggeredBy'
// The calls that each block may contain.
def GRAMMAR = [
    pipeline        : 'agent environment options parameters post stages tools triggers',
    stages          : 'stage', parallel: 'stage',
    stage           : 'agent environment failFast input matrix options parallel post stages steps tools when',
    matrix          : 'agent axes environment excludes input options post stages tools when',
    axes            : 'axis', axis: 'name values notValues',
    post            : POST, parameters: 'booleanParam choice password string text', triggers: 'cron githubPush pollSCM upstream',
    options         : OPTIONS, when: "$CONDITIONS beforeAgent beforeInput beforeOptions", allOf: CONDITIONS, anyOf: CONDITIONS, not: CONDITIONS,
    environment     : '=', steps: STEPS, withCredentials: STEPS, agent: 'label docker dockerfile kubernetes node',
] + POST.tokenize().collectEntries { [it, STEPS] }
def NEEDS = [pipeline: ['agent', 'stages'], stages: ['stage'], parallel: ['stage'], matrix: ['axes', 'stages'], axis: ['name', 'values']]

def all = []
def walk
walk = { call, path ->
    all << (call + [path: path])
    def names = call.inside*.name
    // In `script` a stage is a step with steps inside.
    def scripted = call.name == 'script' || path.any { it.name == 'script' }
    def may = (scripted ? STEPS + ' stage' : GRAMMAR[call.name])?.tokenize()
    if (scripted && !(call.name in ['script', 'stage', 'withCredentials'])) may = null
    if (may != null) {
        call.inside.findAll { !(it.name in may) }.each { complaints << "line $it.line: '$it.name' is not allowed in '$call.name'" }
        (NEEDS[call.name] ?: []).findAll { !(it in names) }.each { complaints << "line $call.line: '$call.name' without '$it'" }
    }
    if (call.name == 'stage' && !scripted && names.count { it in ['steps', 'stages', 'parallel', 'matrix'] } != 1) {
        complaints << "line $call.line: a stage has either steps, stages, parallel or matrix"
    }
    call.inside.each { walk(it, path + [call]) }
}
def top = calls(unit.AST.modules[0].statementBlock.statements)
if (top*.name != ['pipeline']) complaints << "the file contains ${top*.name} instead of one pipeline"
top.each { walk(it, []) }

def named = { name -> all.findAll { it.name == name } }
def within = { call, name -> call.path.any { it.name == name } }
def must = { holds, words -> if (!holds) complaints << words }

def stages = top[0].inside.find { it.name == 'stages' }.inside.collect { it.args[0].text }
must(stages == ['Checkout', 'Check', 'Test', 'Figures', 'Images', 'Manifests', 'Write back', 'Roll out'], "the stages are $stages")
def stageOf = { name -> named('stage').find { it.args[0].text == name } }
def steps = stageOf('Roll out').inside.find { it.name == 'stages' }.inside.collect { it.args[0].text }
must(steps == ['Start', 'Engines and topics', 'Config', 'Settings', 'First services', 'Services', 'Smoke test'], "the steps of a roll-out are $steps")
must(named('timeout').any { it.path*.name == ['pipeline', 'options'] }, 'the build has no time limit')
top[0].inside.find { it.name == 'stages' }.inside.findAll { it.args[0].text != 'Checkout' }.each { stage ->
    must(stage.inside.find { it.name == 'options' }?.inside?.any { it.name == 'timeout' }, "${stage.args[0].text} has no time limit")
}
must(named('disableConcurrentBuilds'), 'concurrent builds are allowed')
must(named('lock').any { call -> call.path.any { it.name == 'stage' && it.args[0].text == 'Roll out' } }, 'concurrent deployments are allowed')
must(named('githubPush') && named('pollSCM'), 'a webhook or the polling for lost webhooks is missing')
must(named('booleanParam'), 'no parameter requests a roll-out')
['mail', 'slackSend'].each { step ->
    ['failure', 'fixed'].each { when -> must(named(step).any { within(it, when) }, "no $step when the result is $when") }
}
must(named('cron'), 'nothing runs at night')
must(within(stageOf('Roll back'), 'unsuccessful') && within(stageOf('Roll back'), 'post'), 'a failed roll-out is not rolled back')
must(named('parallel') && named('matrix'), 'no stages run in parallel')
def axis = { name -> named('values').findAll { call -> call.path.any { it.name == 'stage' && it.args[0].text == name } }.collectMany { it.args*.text } as Set }
must(axis('Images') == ((services + 'fleet') as Set), "images are built for ${axis('Images')}")
must(axis('Services') == ((services - 'config') as Set), "${axis('Services')} are rolled out side by side")

// Every command is a make target; commands that need a credential have it bound.
named('sh').each { call ->
    def text = call.args[0].text
    (text =~ /\bmake((?:\s+(?:--?[a-z-]+|[A-Z]+=\S+|[a-z][a-z-]*))+)/).each { found ->
        found[1].tokenize().findAll { it ==~ /[a-z][a-z-]*/ }.each { must(it in targets, "line $call.line: make has no target '$it'") }
    }
    must(!(text =~ /\bdocker login\b|\bmake\b.*\b(write-back|deploy-step STEP=(?!smoke))/) || within(call, 'withCredentials'), "line $call.line: without credentials: $text")
}
def asked = named('sh').findResults { (it.args[0].text =~ /\bSTEP=([a-z-]+)/).with { found -> found ? found.group(1) : null } }
must(asked == ['start', 'engines', 'config', 'settings', 'first', 'service', 'smoke', 'rollback'], "the commands of scripts/deploy are called in the order $asked")
must(commands.containsAll(asked), "scripts/deploy does not know ${asked - commands}")
named('archiveArtifacts').with { kept ->
    ['rendered.yaml', 'images.txt', 'figures/', 'sbom/'].each { name -> must(kept.any { it.args*.text.join().contains(name) }, "$name is not archived") }
}
def made = named('sh').collectMany { (it.args[0].text =~ /\bmake\b([^|&\n]*)/).collect { found -> found[1] } }.join(' ')
['lint', 'check-deps', 'check-ops', 'test', 'sbom', 'figures', 'changed', 'image', 'render', 'write-back', 'deploy-step'].each { must(made =~ /\b$it\b/, "make $it is not called") }

complaints.each { System.err.println("error: Jenkinsfile: $it") }
if (complaints) System.exit(1)
println("Jenkinsfile: ${named('stage').size()} stages, ${named('sh').size()} commands, valid Declarative Pipeline")
