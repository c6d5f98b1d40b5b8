#!/usr/bin/env perl
# Perl's Minion on a database: does what each line of its input says, and answers with a line of JSON.
#   ["minion", "enqueue", "add", [1, 2]]   ["backend", "stats"]   ["worker", "dequeue", 0]   ["job 5", "info"]
use Mojo::Base -strict;

use Minion;
use Mojo::JSON qw(decode_json encode_json);

my $minion = Minion->new(Pg => shift);
$minion->add_task(add  => sub { my ($job, @numbers) = @_; my $sum = 0; $sum += $_ for @numbers; $job->finish($sum) });
$minion->add_task(fail => sub { my $job = shift; $job->fail({why => 'so'}) });
$minion->add_task(note => sub { my ($job, %notes) = @_; $job->note(%notes) });

my ($worker, %taken);
$| = 1;
while (my $line = <STDIN>) {
  my ($on, $method, @arguments) = @{decode_json $line};
  my $answer = eval {
    my $object
      = $on eq 'minion'  ? $minion
      : $on eq 'backend' ? $minion->backend
      : $on eq 'worker'  ? ($worker //= $minion->worker->register)
      : $on =~ /^job (\d+)$/ ? ($taken{$1} // $minion->job($1))
      :                        die "What is $on?";
    my $result = $object->$method(@arguments);
    if (ref $result && ref($result) =~ /^Minion::Job/) {
      $taken{$result->id} = $result;
      $result = {id => $result->id, args => $result->args, task => $result->task, retries => $result->retries};
    }
    elsif (ref $result && ref $result ne 'HASH' && ref $result ne 'ARRAY' && ref($result) !~ /Boolean/) { $result = 'object' }
    {answer => $result};
  } // {error => "$@"};
  say encode_json $answer;
}
