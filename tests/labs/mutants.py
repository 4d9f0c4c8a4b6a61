"""mutants.py - wrong answers: the reference with one fault each.

Each names the text that it replaces, which the reference must hold exactly
once, and a check that has to notice.
"""
import dataclasses

from labs import parts


@dataclasses.dataclass
class Mutant:
    lab: int
    name: str
    check: str
    old: str
    new: str
    stress: bool = False    # only then

    def text(self, root):
        """The answer with this fault."""
        path = root / parts.FILES[self.lab][0]
        text = path.read_text()
        if text.count(self.old) != 1:
            raise AssertionError(
                f'mutant {self.name}: {path.name} holds its text '
                f'{text.count(self.old)} times; it was written for another '
                'reference')
        return text.replace(self.old, self.new)


MUTANTS = [
    # ---- The DPC queue
    Mutant(1, 'second-insert-changes-arguments', 'once',
           '    if (inserted) {\n        dpc->SystemArgument1',
           '    dpc->SystemArgument2 = argument2;\n'
           '    if (inserted) {\n        dpc->SystemArgument1'),
    Mutant(1, 'high-goes-to-the-tail', 'order',
           'if (dpc->Importance == HighImportance)', 'if (false)'),
    Mutant(1, 'last-in-first-out', 'once',
           'InsertTailList(&queue->list', 'InsertHeadList(&queue->list',
           stress=True),
    Mutant(1, 'low-starts-a-drain', 'low',
           'importance != LowImportance', 'true'),
    Mutant(1, 'interrupts-off', 'inside',
           '    ki_enable();\n    routine(', '    routine('),
    Mutant(1, 'one-for-each-drain', 'interrupts',
           'while (run_one(&prcb->dpc))\n            continue;',
           'run_one(&prcb->dpc);'),
    Mutant(1, 'runs-at-dispatch', 'in time',
           'KeGetCurrentIrql() < DISPATCH_LEVEL',
           'KeGetCurrentIrql() <= DISPATCH_LEVEL', stress=True),
    Mutant(1, 'no-target', 'processors',
           'dpc->Number ? ki_processor[dpc->Number - 1] : self', 'self',
           stress=True),
    Mutant(1, 'asks-nobody', 'processors',
           'hal_send_ipi(target->apic_id, HAL_VECTOR_DPC)',
           'ki_poke_later(self, target->Number)'),
    Mutant(1, 'medium-interrupts-others', 'processors',
           'importance >= HighImportance ||', 'importance != LowImportance ||'),
    Mutant(1, 'remove-forgets', 'once',
           'RemoveEntryList(&dpc->DpcListEntry);', ';', stress=True),

    # ---- APCs
    Mutant(2, 'specials-behind-normals', 'order',
           'while (before != head &&', 'while (false &&'),
    Mutant(2, 'queued-twice', 'oneself',
           'thread->ApcQueueable && !apc->Inserted', 'thread->ApcQueueable'),
    Mutant(2, 'normals-interrupt-normals', 'normal',
           '(thread->KernelApcDisable || state->KernelApcInProgress)',
           '(thread->KernelApcDisable)'),
    Mutant(2, 'normals-in-critical-regions', 'regions',
           '(thread->KernelApcDisable || state->KernelApcInProgress)',
           '(state->KernelApcInProgress)', stress=True),
    Mutant(2, 'normal-routine-at-apc-level', 'order',
           '        ki_set_irql(DISPATCH_LEVEL);\n'
           '        ki_run_held_back(PASSIVE_LEVEL);', '        ;',
           stress=True),
    Mutant(2, 'suppressed-half-is-called', 'order',
           'if (special || !apc.NormalRoutine)', 'if (special)',
           stress=True),
    Mutant(2, 'changed-arguments-are-lost', 'order',
           'apc.NormalRoutine(apc.NormalContext, apc.SystemArgument1,\n'
           '                          apc.SystemArgument2);',
           'apc.NormalRoutine(apc.NormalContext, original->SystemArgument1,\n'
           '                          original->SystemArgument2);'),
    Mutant(2, 'wakes-at-apc-level', 'waiting',
           'thread->WaitIrql == PASSIVE_LEVEL && ', ''),
    Mutant(2, 'wakes-in-critical-regions', 'waiting',
           '(!thread->KernelApcDisable &&\n                                    ',
           '('),
    Mutant(2, 'waits-are-not-interrupted', 'waiting',
           '    if (wakes)\n', '    if (wakes && mode != KernelMode)\n'),
    Mutant(2, 'ends-any-wait', 'others',
           '(thread->Alertable || apc->at_head)', 'true'),
    Mutant(2, 'user-apcs-last-in-first-out', 'alertable',
           'LIST_ENTRY *before = head->Blink;',
           'LIST_ENTRY *before = apc->ApcMode ? head : head->Blink;',
           stress=True),

    # ---- The completion port
    Mutant(3, 'one-too-many', 'limit',
           'while (queue->CurrentCount < queue->MaximumCount',
           'while (queue->CurrentCount <= queue->MaximumCount'),
    Mutant(3, 'no-limit-for-who-asks', 'place',
           'queue->CurrentCount > queue->MaximumCount ||\n        ', '',
           stress=True),
    Mutant(3, 'place-is-kept', 'place',
           'CurrentCount--;\n    release_waiters(queue);', 'CurrentCount--;'),
    Mutant(3, 'place-above-the-limit', 'place',
           'CurrentCount--;\n    release_waiters(queue);',
           'CurrentCount--;\n    if (!IsListEmpty(&queue->waiters) &&\n'
           '        !IsListEmpty(&queue->EntryListHead))\n'
           '        hand_over(queue);'),
    Mutant(3, 'oldest-first', 'newest',
           'InsertHeadList(&queue->waiters', 'InsertTailList(&queue->waiters'),
    Mutant(3, 'packets-last-in-first-out', 'in order',
           'InsertTailList(&queue->EntryListHead',
           'InsertHeadList(&queue->EntryListHead', stress=True),
    Mutant(3, 'own-wait-releases-another', 'own wait',
           'return thread->Queue == queue && thread->WaitReason',
           'return thread->Queue != queue && thread->WaitReason'),
]
